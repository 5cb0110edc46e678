"""`chatd.client` against real servers: killed, cut off, slow, and gone for good."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from chatd.client import (
    Client,
    Closed,
    Connected,
    Conversation,
    Cursor,
    Cursors,
    Disconnected,
    Joined,
    Left,
    Message,
    Presence,
    Read,
    Receipt,
    Refused,
    Sent,
    SignedOut,
    Typing,
    Unreachable,
)
from tests.chat import PASSWORD, PATIENCE, start_app
from tests.client.heard import Heard, listening, numbered, sign_in
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.proxy import Direction, Proxy
from tests.leaks import watch

ANN, BOB = "ann@example.org", "bob@example.org"
WITH_BOB, WITH_ANN = Conversation(user=BOB), Conversation(user=ANN)
CLUB = Conversation(group="club")

SPEAKERS: Final = 8
"""How many messages of each user are on their way when a server is killed."""


@pytest.fixture
async def url(io_loop: Any, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server in the test's own loop, for what needs no process to be killed."""
    mark = request.node.get_closest_marker("settings")
    app = await start_app(tmp_path, **(mark.kwargs if mark else {}))
    yield await app.start()
    await app.stop()


# -- what two users say to each other ----------------------------------------------------------


async def test_two_users_hear_of_everything_the_other_does(io_loop: Any, url: str) -> None:
    async with listening(url, ANN) as ann, listening(url, BOB) as bob:
        assert bob.client.user == BOB
        await ann.client.create_group("club", "The Club")
        await bob.client.join("club")
        assert (await ann.first(Joined, user=BOB)).conversation == CLUB
        assert ann.of(Presence)

        ann.client.typing(to=BOB)
        assert (await bob.first(Typing)).conversation == WITH_ANN
        sent = await ann.client.send("Hello, Bob", to=BOB)
        assert (sent.seq, sent.duplicate, sent.conversation) == (1, False, WITH_BOB)
        message = await bob.first(Message)
        assert (message.text, message.sender, message.id) == ("Hello, Bob", ANN, sent.id)
        assert (message.conversation, message.own) == (WITH_ANN, False)
        receipt = await ann.first(Receipt, kind="delivered")
        assert (receipt.conversation, receipt.by, receipt.seq) == (WITH_BOB, BOB, 1)
        await bob.client.read(message)
        await ann.first(Receipt, kind="read", by=BOB)

        await bob.client.send("Hello, all", group="club")
        assert (await ann.first(Message, conversation=CLUB)).sender == BOB
        reply = await bob.client.reply(message, "Hello, Ann")
        assert reply.conversation == WITH_ANN
        assert (await ann.first(Message, conversation=WITH_BOB)).text == "Hello, Ann"
        assert not [one for one in ann.of(Message) if one.own]

        async with listening(url, BOB) as second:
            await second.client.send("from my other device", to=ANN)
            other = await bob.first(Message, own=True)
            assert (other.conversation, other.seq) == (WITH_ANN, 3)
            await second.client.read(other)
            assert (await bob.first(Read)).conversation == WITH_ANN
        await bob.client.leave("club")
        await ann.first(Left, user=BOB)


async def test_lists_are_paged_and_typed(io_loop: Any, url: str) -> None:
    async with await sign_in(url, ANN) as ann, await sign_in(url, BOB) as bob:
        for number in range(60):
            await ann.create_group(f"g{number:02}", "One of many" if number else None)
        await bob.join("g03")
        sent = await numbered(ann, 70, group="g03")
        await bob.send("to ann", to=ANN)

        assert [one.name async for one in bob.groups()] == [f"g{n:02}" for n in range(60)]
        (joined,) = [one async for one in bob.groups(joined=True)]
        assert (joined.name, joined.title, joined.members) == ("g03", "One of many", 2)
        assert {one.email async for one in bob.members("g03")} == {ANN, BOB}
        assert [one.email async for one in bob.users(prefix="ann", online=True)] == [ANN]
        assert (await bob.find_user(ANN)).online

        with_bob, with_group, *_ = [one async for one in ann.conversations()]
        assert with_bob.conversation == WITH_BOB
        assert with_bob.unread == 1
        assert with_group.conversation == Conversation(group="g03")
        assert with_group.last_message is not None
        assert with_group.last_message.own
        newest = await bob.history(group="g03", limit=20)
        assert [one.seq for one in newest.messages] == list(range(51, 71))
        assert newest.has_more
        oldest = await bob.history(group="g03", before_seq=51, limit=200)
        assert (len(oldest.messages), oldest.has_more) == (50, False)
        assert oldest.messages[0].id == sent[0].id
        with pytest.raises(Refused) as refused:
            await bob.history(group="g04")
        assert refused.value.code == "not_a_member"


async def test_what_the_server_will_never_take_is_raised(io_loop: Any, url: str) -> None:
    with pytest.raises(Refused) as refused:
        await Client.sign_in(url, ANN, "short")
    assert refused.value.code == "invalid"
    async with listening(url, ANN) as ann:
        with pytest.raises(Refused) as refused:
            await Client.sign_in(url, ANN, "another horse battery")
        assert refused.value.code == "bad_credentials"

        async def code(asked: Any) -> str:
            with pytest.raises(Refused) as refused:
                await asked
            return refused.value.code

        client = ann.client
        assert await code(client.send("hello", to="nobody@example.org")) == "unknown_user"
        assert await code(client.send("hello", group="nowhere")) == "unknown_group"
        assert await code(client.send("x" * 4001, to=ANN)) == "invalid"
        assert await code(client.send("\N{GRINNING FACE}" * 10_000, to=ANN)) == "too_large"
        assert await code(client.create_group("!")) == "invalid"
        message = await client.send("to myself", to=ANN, client_id="c1")
        assert await code(client.send("another text", to=ANN, client_id="c1")) == "client_id_reused"
        again = await client.send("to myself", to=ANN, client_id="c1")
        assert (again.id, again.duplicate) == (message.id, True)
        # Only the one that was wrong is refused, of what is asked at the same time.
        (mine,) = (await client.history(user=ANN)).messages
        beyond = msgspec.structs.replace(mine, seq=99)
        answers = await asyncio.gather(
            *(client.read(one) for one in (mine, beyond, mine)), return_exceptions=True
        )
        assert [type(one) for one in answers] == [type(None), Refused, type(None)]
        with pytest.raises(ValueError, match="one only"):
            await client.send("hello", to=ANN, group="club")
    with pytest.raises(Closed):
        await client.send("too late", to=ANN)
    with pytest.raises(Unreachable):
        await Client.sign_in("http://127.0.0.1:9", ANN, PASSWORD)


@pytest.mark.settings(limits__send_per_second=100, limits__send_burst=10)
async def test_a_burst_beyond_the_limit_is_slowed_down_and_gets_through(
    io_loop: Any, url: str
) -> None:
    """Seen to fail with a window that a refusal does not close: the flood ends the connection."""
    async with listening(url, ANN) as ann, listening(url, BOB) as bob:
        sent = await numbered(ann.client, 150, to=BOB)
        assert sorted(one.seq for one in sent) == list(range(1, 151))
        assert not any(one.duplicate for one in sent)
        await bob.until(lambda: len(bob.of(Message)) == 150)
        assert not ann.of(Disconnected)


# -- faults ------------------------------------------------------------------------------------


async def stored(client: Client, group: str) -> list[Message]:
    """All messages of a group, as the server has them."""
    found: list[Message] = []
    more = True
    while more:
        after = found[-1].seq if found else 0
        page = await client.history(group=group, after_seq=after, limit=200)
        found += page.messages
        more = page.has_more
    return found


def heard_by(one: Heard, messages: Sequence[Message]) -> bool:
    """Whether it has heard all of these that others wrote."""
    others = {message.id for message in messages if message.sender != one.client.user}
    return others <= {message.id for message in one.of(Message)}


def check_order(one: Heard) -> None:
    seqs = [message.seq for message in one.of(Message) if message.conversation == CLUB]
    assert seqs == sorted(set(seqs))


async def talk(client: Client, sent: list[Sent], enough: asyncio.Event) -> None:
    """Send one message after the other, each until it is stored."""
    while not enough.is_set():
        sent.append(await client.send("and another thing", group="club"))


@pytest.mark.full("mongo")
async def test_what_is_sent_while_the_server_is_killed_is_stored_once_and_heard_once(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    scale: Scale,
    chance: random.Random,
    report: Report,
) -> None:
    """Seen to fail with an outbox that does not hear of the disconnect: nothing goes again."""
    kills = scale(3, 50)
    server = make_server(storage=durable_url, unlimited=True)
    url = server.start()
    async with listening(url, ANN) as ann, listening(url, BOB) as bob:
        await ann.client.create_group("club")
        await bob.client.join("club")
        sent: list[Sent] = []
        enough = asyncio.Event()
        talking = [
            asyncio.create_task(talk(one.client, sent, enough)) for one in (ann, bob) * SPEAKERS
        ]
        for _ in range(kills):
            await ann.until(lambda: ann.client.is_connected)
            await bob.until(lambda: bob.client.is_connected)
            before = len(sent)
            async with asyncio.timeout(60):
                while len(sent) < before + 50:
                    await asyncio.sleep(chance.uniform(0.0, 0.01))
            server.kill()
            await asyncio.to_thread(server.restart)
        enough.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*talking)

        in_store = await stored(ann.client, "club")
        assert [one.seq for one in in_store] == list(range(1, len(sent) + 1))
        assert sorted(one.seq for one in sent) == [one.seq for one in in_store]
        assert {one.id for one in sent} == {one.id for one in in_store}
        for one in (ann, bob):
            await one.until(lambda one=one: heard_by(one, in_store))  # type: ignore[misc]
            check_order(one)
        assert len(ann.of(Disconnected)) >= kills
        repeated = sum(one.duplicate for one in sent)
        report(f"{kills} kills: a client stored {len(sent):,} messages once, {repeated} repeated")


async def test_what_is_stored_though_its_answer_was_lost_is_repeated_and_stays_one_message(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Seen to fail with an outbox that does not hear of the disconnect: nothing goes again."""
    server = make_server()
    url = server.start()
    async with (
        Proxy(int(url.rpartition(":")[2])) as proxy,
        listening(url, BOB) as bob,
        listening(proxy.url, ANN) as ann,
    ):
        proxy.swallow(Direction.TO_CLIENT)
        sending = asyncio.create_task(numbered(ann.client, 20, to=BOB))
        await bob.until(lambda: len(bob.of(Message)) == 20)
        assert not sending.done()
        proxy.cut()
        proxy.heal()
        async with asyncio.timeout(60):
            sent = await sending
        assert all(one.duplicate for one in sent)
        assert {one.id for one in sent} == {one.id for one in bob.of(Message)}
        await ann.client.send("another one", to=BOB)
        await bob.until(lambda: len(bob.of(Message)) == 21)
        assert [one.seq for one in bob.of(Message)] == list(range(1, 22))


async def test_over_a_network_that_cuts_every_message_is_heard_once_and_in_order(
    io_loop: Any,
    make_server: MakeServer,
    scale: Scale,
    chance: random.Random,
    report: Report,
) -> None:
    """Seen to fail with an inbox that puts no hole where messages were left out."""
    messages = scale(600, 6000)
    server = make_server(unlimited=True, environment={"CHATD_LIMITS__REPLAY": "20"})
    port = int(server.start().rpartition(":")[2])
    async with Proxy(port, lambda: chance.randrange(4_000, 40_000)) as proxy:
        async with await sign_in(server.url, ANN) as direct:
            await direct.create_group("club")
        bob_signed_in = await sign_in(server.url, BOB)
        await bob_signed_in.join("club")
        await bob_signed_in.close()
        async with (
            Client(proxy.url, direct.token, waiting=30) as ann,
            Client(proxy.url, bob_signed_in.token, waiting=30) as bob,
        ):
            heard = Heard(bob)
            sent = await numbered(ann, messages, group="club")
            assert sorted(one.seq for one in sent) == list(range(1, messages + 1))
            await heard.until(lambda: len(heard.of(Message)) == messages)
            check_order(heard)
            report(f"{proxy.cuts} cuts: {messages:,} messages through a client, once and in order")
            assert proxy.cuts > 2
            await heard.end()


@pytest.mark.settings(limits__send_per_second=0, limits__replay=50)
async def test_a_gap_beyond_what_is_replayed_is_fetched_in_its_place(
    io_loop: Any, url: str
) -> None:
    """Seen to fail with an inbox that puts no hole where messages were left out, and with a reader
    that does not say ``received`` behind one."""
    async with await sign_in(url, ANN) as ann, listening(url, BOB) as bob:
        await ann.create_group("club")
        await bob.client.join("club")
        await bob.end()
        await numbered(ann, 700, group="club")
        async with listening(url, BOB) as bob_again:
            await numbered(ann, 10, group="club")
            await bob_again.until(lambda: len(bob_again.of(Message)) == 710)
            assert [one.seq for one in bob_again.of(Message)] == list(range(1, 711))
            # What was fetched is confirmed: the sender hears of it, and it does not come again.
            await marked(ann, BOB, 710)
        async with listening(url, BOB) as once_more:
            assert not once_more.of(Message)


async def marked(client: Client, member: str, seq: int) -> None:
    """Return once everything up to ``seq`` has been delivered to a member of the club."""
    async with asyncio.timeout(PATIENCE):
        while True:
            marks = {one.email: one.delivered_seq async for one in client.members("club")}
            if marks[member] == seq:
                return
            await asyncio.sleep(0.02)


@pytest.mark.settings(limits__send_per_second=0)
async def test_a_program_that_is_slow_slows_reading_and_still_gets_its_answers(
    io_loop: Any, url: str
) -> None:
    """Seen to fail with a full inbox that stops reading though an answer is waited for."""
    async with await sign_in(url, ANN) as ann, await sign_in(url, BOB, waiting=20) as bob:
        await ann.create_group("club")
        await bob.join("club")
        await numbered(ann, 300, group="club")
        # It has not taken anything yet. An answer comes nevertheless, and what came in front of
        # it is not kept: it is fetched when it is wanted.
        await bob.send("I am slow", to=ANN)
        await numbered(ann, 300, group="club")
        await bob.send("very slow", group="club")
        assert bob.waiting <= 22
        seqs = []
        async for event in bob:
            if isinstance(event, Message) and event.conversation == CLUB:
                seqs.append(event.seq)
                if event.seq == 600:
                    break
        assert seqs == list(range(1, 601))
        await ann.send("and on it goes", group="club")
        async for event in bob:
            if isinstance(event, Message):
                assert (event.text, event.seq) == ("and on it goes", 602)
                break


async def test_a_program_goes_on_from_its_cursors(io_loop: Any, url: str) -> None:
    """Seen to fail with cursors of what was read from the socket, not of what was handed out."""
    async with await sign_in(url, ANN) as ann, await sign_in(url, BOB) as bob:
        for text in ("one", "two", "three"):
            await ann.send(text, to=BOB)
        # All three have been delivered to this device, as far as the server knows.
        async for event in ann:
            if isinstance(event, Receipt) and event.seq == 3:
                break
        taken = []
        async for event in bob:
            if isinstance(event, Message):
                taken.append(event.text)
                if len(taken) == 2:
                    break
        kept = msgspec.json.encode(bob.cursors)
    assert taken == ["one", "two"]
    cursors = msgspec.json.decode(kept, type=Cursors)
    async with listening(url, BOB, cursors=cursors) as bob_again:
        assert bob_again.texts(WITH_ANN) == ["three"]
    elsewhere = Cursors("another epoch", (Cursor(1, user=ANN),))
    async with listening(url, BOB, cursors=elsewhere) as third:
        assert not third.of(Message)


async def test_what_a_program_did_not_confirm_comes_again(io_loop: Any, url: str) -> None:
    """Seen to fail with a socket that is not opened with ``receipts=explicit``."""
    async with await sign_in(url, ANN) as ann:
        async with listening(url, BOB, explicit=True) as bob:
            await numbered(ann, 3, to=BOB)
            await bob.until(lambda: len(bob.of(Message)) == 3)
            await bob.client.received(bob.of(Message)[1])
        async with listening(url, BOB, explicit=True) as bob_again:
            assert [one.seq for one in bob_again.of(Message)] == [3]
        newest = await ann.history(user=BOB)
        assert [one.delivered_at is None for one in newest.messages] == [False, False, True]


async def test_to_a_program_that_only_sends_nothing_is_delivered(io_loop: Any, url: str) -> None:
    async with await sign_in(url, ANN) as ann, await sign_in(url, BOB, listen=False) as bob:
        await ann.send("anybody there?", to=BOB)
        await bob.send("I only talk", to=ANN)
        await bob.send("and talk", to=ANN)
        assert bob.waiting <= 1
        (question, *_) = (await ann.history(user=BOB)).messages
        assert question.delivered_at is None


# -- how it ends -------------------------------------------------------------------------------


@pytest.mark.settings(auth__token_seconds=4)
async def test_a_token_is_replaced_before_it_ends_and_the_connection_stays(
    io_loop: Any, url: str
) -> None:
    """Seen to fail with a fresh token that the live socket is not told."""
    async with listening(url, ANN) as ann:
        tokens = {ann.client.token}
        async with asyncio.timeout(PATIENCE):
            while len(tokens) < 4:
                await asyncio.sleep(0.05)
                tokens.add(ann.client.token)
        for token in tokens:
            watch.keep({"token": token})
        await ann.client.send("still here", to=ANN)
        assert not ann.of(Disconnected)


async def test_signed_out_it_ends_and_says_so(io_loop: Any, url: str) -> None:
    async with await sign_in(url, ANN) as ann:
        async for event in ann:
            if isinstance(event, Connected):
                await ann.sign_out()
                break
        with pytest.raises(SignedOut) as ended:
            async for _ in ann:
                pass
        assert ended.value.code == 4401
        with pytest.raises(SignedOut):
            await ann.send("hello?", to=ANN)
    # A token that is no good from the start ends the same way.
    async with Client(url, ann.token) as again:
        with pytest.raises(SignedOut):
            await again.send("hello?", to=ANN)


async def test_a_server_that_goes_says_when_to_come_back(
    io_loop: Any, make_server: MakeServer
) -> None:
    server = make_server()
    url = server.start()
    async with listening(url, ANN) as ann:
        assert server.terminate() == 0
        gone = await ann.first(Disconnected)
        assert gone.reason == "the server is stopping"
        assert gone.retry_in > 1
        sending = asyncio.create_task(ann.client.send("when you are back", to=ANN))
        await asyncio.to_thread(server.restart)
        assert (await sending).seq == 1
        assert ann.client.is_connected


@pytest.mark.settings(limits__send_per_second=0, limits__replay=5)
async def test_one_that_is_no_member_of_any_more_does_not_wait_for_its_gap(
    io_loop: Any, url: str
) -> None:
    async with await sign_in(url, ANN) as ann:
        await ann.create_group("club")
        async with await sign_in(url, BOB) as bob:
            await bob.join("club")
        await numbered(ann, 30, group="club")
        async with await sign_in(url, BOB, waiting=3) as bob:
            await bob.leave("club")
            seqs = []
            await ann.send("to you alone", to=BOB)
            async for event in bob:
                if isinstance(event, Message):
                    if event.conversation == WITH_ANN:
                        break
                    seqs.append(event.seq)
            assert seqs == list(range(1, len(seqs) + 1))


def test_it_imports_nothing_of_the_servers() -> None:
    program = (
        "import sys, chatd.client\n"
        "print(*(name for name in sys.modules if name.startswith('chatd.')"
        " or name in ('pydantic', 'argon2', 'motor', 'structlog', 'click')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout
    assert [one for one in done.stdout.split() if not one.startswith("chatd.client")] == []
