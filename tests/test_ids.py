from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets

from chatd.ids import HttpSource, LocalSource, SourceError, UuidPool, UuidSource
from tests.uuid_generator import Fault, Generator

BATCH, LOW_WATER = 100, 25


class Log:
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fields: list[dict[str, Any]] = []

    def info(self, event: str, *args: Any, **fields: Any) -> None:
        self.events.append(event)
        self.fields.append(fields)

    warning = info


class GeneratorServer:
    """The generator behind a real port, which can be closed and opened again."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        (self._socket,) = bind_sockets(0, "127.0.0.1")
        self.port: int = self._socket.getsockname()[1]
        self._server: HTTPServer | None = None
        self.start()

    def start(self) -> None:
        if self._server is not None:
            (self._socket,) = bind_sockets(self.port, "127.0.0.1")
        self._server = HTTPServer(self.generator.app())
        self._server.add_socket(self._socket)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.stop()
        await self._server.close_all_connections()

    def source(self, path: str = "/", *, timeout: float = 5.0) -> HttpSource:
        return HttpSource(f"http://127.0.0.1:{self.port}{path}", fetch, timeout=timeout)


async def fetch(url: str) -> bytes:
    return (await AsyncHTTPClient(force_instance=True).fetch(url)).body


@pytest.fixture
async def server(io_loop: IOLoop) -> AsyncIterator[GeneratorServer]:
    server = GeneratorServer(Generator())
    yield server
    await server.stop()


class Counted:
    """A pool with its background task, its log and the number of its fallbacks."""

    def __init__(self, source: UuidSource) -> None:
        self.log = Log()
        self.fallbacks = 0
        self.pool = UuidPool(
            source, batch=BATCH, low_water=LOW_WATER, on_fallback=self._count, log=self.log
        )

    def _count(self) -> None:
        self.fallbacks += 1


@asynccontextmanager
async def running(source: UuidSource) -> AsyncIterator[Counted]:
    counted = Counted(source)
    task = asyncio.create_task(counted.pool.run())
    yield counted
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Scripted:
    """A source whose answers the test gives one by one."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answers: asyncio.Queue[list[str]] = asyncio.Queue()

    async def fetch(self, count: int) -> list[str]:
        self.asked.append(count)
        return await self.answers.get()


def some(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


# -- the pool --------------------------------------------------------------------------------


async def test_a_warm_pool_never_falls_back_in_a_burst_up_to_its_batch(io_loop: IOLoop) -> None:
    async with running(LocalSource()) as one:
        await one.pool.ready()
        for _ in range(20):
            assert one.pool.level == BATCH
            ids = {one.pool.take() for _ in range(BATCH)}
            assert len(ids) == BATCH
            await until(lambda: one.pool.level == BATCH)
    assert (one.fallbacks, one.log.events) == (0, [])


async def test_100000_ids_are_unique_and_canonical(io_loop: IOLoop) -> None:
    async with running(LocalSource()) as one:
        ids = []
        for number in range(100_000):
            ids.append(one.pool.take())
            if number % 70 == 0:
                await asyncio.sleep(0)
    assert len(set(ids)) == 100_000
    assert ids[::1000] == [str(uuid.UUID(one)) for one in ids[::1000]]
    assert 0 < one.fallbacks < 100_000


async def test_the_pool_fetches_below_low_water_and_only_what_is_missing(io_loop: IOLoop) -> None:
    source = Scripted()
    async with running(source) as one:
        source.answers.put_nowait(some(BATCH))
        await one.pool.ready()
        for _ in range(BATCH - LOW_WATER):
            one.pool.take()
        await asyncio.sleep(0)
        assert (one.pool.level, source.asked) == (LOW_WATER, [BATCH])
        one.pool.take()
        await until(lambda: len(source.asked) == 2)
        assert source.asked == [BATCH, BATCH - LOW_WATER + 1]
        one.pool.take()
        source.answers.put_nowait(some(BATCH - LOW_WATER + 1))
        await until(lambda: one.pool.level == BATCH - 1)
        await asyncio.sleep(0.01)
        assert len(source.asked) == 2


async def test_a_short_answer_is_taken_and_the_rest_asked_for_later(io_loop: IOLoop) -> None:
    source = Scripted()
    async with running(source) as one:
        source.answers.put_nowait(some(2))
        await one.pool.ready()
        one.pool.take()
        await until(lambda: source.asked == [BATCH, BATCH - 1])


async def test_an_empty_pool_makes_ids_itself_and_says_so_once(io_loop: IOLoop) -> None:
    source = Scripted()
    async with running(source) as one:
        ids = [one.pool.take() for _ in range(5)]
        assert one.fallbacks == 5
        assert one.log.events == ["uuid_pool_dry"]
        source.answers.put_nowait(given := some(3))
        await one.pool.ready()
        assert [one.pool.take() for _ in range(3)] == given
        assert one.fallbacks == 5
        ids += [one.pool.take() for _ in range(5)]
    assert len(set(ids)) == 10
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert one.log.events == ["uuid_pool_dry"] * 2


async def test_ready_waits_for_the_first_ids(io_loop: IOLoop) -> None:
    source = Scripted()
    async with running(source) as one:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.pool.ready(), 0.05)
        source.answers.put_nowait(some(1))
        await asyncio.wait_for(one.pool.ready(), 30)


async def test_ids_that_came_before_are_refused(io_loop: IOLoop) -> None:
    source = Scripted()
    async with running(source) as one:
        source.answers.put_nowait(first := some(BATCH))
        await one.pool.ready()
        taken = [one.pool.take() for _ in range(BATCH)]
        for repeated in (first, [*some(3), first[0]]):
            source.answers.put_nowait(repeated)
        source.answers.put_nowait(fresh := some(2))
        await until(lambda: one.pool.level == 2)
        taken += [one.pool.take() for _ in range(2)]
    assert taken == first + fresh
    assert one.log.events == ["uuid_source_failed", "uuid_source_recovered"]
    assert one.log.fields[1] == {"failures": 2}


# -- a central generator ---------------------------------------------------------------------


async def test_ids_come_from_the_generator_in_canonical_form(
    io_loop: IOLoop, server: GeneratorServer
) -> None:
    async with running(server.source()) as one:
        await one.pool.ready()
        ids = [one.pool.take() for _ in range(BATCH)]
    assert {uuid.UUID(one).version for one in ids} == {4}
    assert ids == [one.lower() for one in ids]
    assert (one.fallbacks, server.generator.requests) == (0, 1)


async def test_a_query_in_the_address_is_kept(io_loop: IOLoop) -> None:
    urls = []

    async def remember(url: str) -> bytes:
        urls.append(url)
        return b'["%s"]' % str(uuid.uuid4()).encode()

    for url in ("http://h", "http://h/ids", "http://h/ids?key=a%26b", "http://h/ids?#part"):
        await HttpSource(url, remember).fetch(7)
    assert urls == [
        "http://h?count=7",
        "http://h/ids?count=7",
        "http://h/ids?key=a%26b&count=7",
        "http://h/ids?count=7",
    ]


TWO_IDS = b'["0190a1f2-0000-7000-8000-000000000001","0190a1f2-0000-7000-8000-000000000002"]'


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"<html>", "not a JSON array of uuids"),
        (b'{"ids": []}', "not a JSON array of uuids"),
        (b'["0001"]', "not a JSON array of uuids"),
        (b"[1]", "not a JSON array of uuids"),
        (b"[]", "0 uuids where 1 to 1 were asked for"),
        (TWO_IDS, "2 uuids where 1 to 1"),
        (b'["00000000-0000-0000-0000-000000000000"]', "another variant"),
        (b'["ffffffff-ffff-ffff-ffff-ffffffffffff"]', "another variant"),
    ],
)
async def test_an_answer_that_can_not_be_used_says_why(
    io_loop: IOLoop, body: bytes, cause: str
) -> None:
    async def answer(url: str) -> bytes:
        return body

    with pytest.raises(SourceError, match=cause):
        await HttpSource("http://h", answer).fetch(1)


async def test_an_answer_that_does_not_come_is_given_up(io_loop: IOLoop) -> None:
    async def never(url: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    fetching = asyncio.create_task(HttpSource("http://h", never, timeout=0.01).fetch(1))
    await until(fetching.done)
    assert isinstance(fetching.exception(), TimeoutError)


FAULTS = [fault for fault in Fault if fault is not Fault.NONE]


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_the_generator_does_ids_are_unique_and_it_is_used_again_afterwards(
    io_loop: IOLoop, server: GeneratorServer, fault: Fault
) -> None:
    async with running(server.source(timeout=1.0)) as one:
        await one.pool.ready()
        server.generator.fault = fault
        ids: list[str] = []

        def troubled() -> bool:
            ids.extend(one.pool.take() for _ in range(10))
            return one.fallbacks > 0 and "uuid_source_failed" in one.log.events

        await until(troubled)
        server.generator.fault = Fault.NONE
        await until(lambda: one.pool.level > 0)
        before = one.fallbacks
        ids += [one.pool.take() for _ in range(one.pool.level)]
    assert one.fallbacks == before
    assert [id_ for id_, times in Counter(ids).items() if times > 1] == []
    events = Counter(one.log.events)
    assert events["uuid_source_failed"] == events["uuid_source_recovered"] == 1


async def test_a_generator_that_is_not_there_is_used_once_it_is(
    io_loop: IOLoop, server: GeneratorServer
) -> None:
    await server.stop()
    async with running(server.source()) as one:
        assert uuid.UUID(one.pool.take()).version == 7
        await until(lambda: "uuid_source_failed" in one.log.events)
        assert "refused" in one.log.fields[-1]["cause"]
        server.start()
        await asyncio.wait_for(one.pool.ready(), 30)
        assert uuid.UUID(one.pool.take()).version == 4
    assert one.log.events == ["uuid_pool_dry", "uuid_source_failed", "uuid_source_recovered"]


async def test_an_outage_is_retried_ever_more_rarely_and_told_once(
    io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 30:
            raise asyncio.CancelledError

    class Broken:
        async def fetch(self, count: int) -> list[str]:
            raise SourceError("broken")

    monkeypatch.setattr("chatd.ids.asyncio.sleep", sleep)
    one = Counted(Broken())
    with pytest.raises(asyncio.CancelledError):
        await one.pool.run()
    assert 0.05 <= slept[0] <= 0.1
    assert 0.1 <= slept[1] <= 0.2
    assert all(5 <= seconds <= 10 for seconds in slept[7:])
    assert len(set(slept)) == 30
    assert one.log.events == ["uuid_source_failed"]
    assert one.log.fields == [{"cause": "SourceError: broken"}]
