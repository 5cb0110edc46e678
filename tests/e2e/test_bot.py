"""docs/examples/echo_bot.py: everything is answered, and once, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.client import Client, Message
from tests.chat import PASSWORD, PATIENCE
from tests.client.heard import listening
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server
from tests.leaks import watch

ECHO = Path(__file__).parents[2] / "docs" / "examples" / "echo_bot.py"
BOT, ANN = "echo@example.org", "ann@example.org"


class Bot:
    """The bot's process."""

    def __init__(self, url: str, log: Path) -> None:
        self._url = url
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *program: str) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, str(ECHO)],
                env={
                    **os.environ,
                    "CHAT_URL": self._url,
                    "CHAT_EMAIL": BOT,
                    "CHAT_PASSWORD": PASSWORD,
                },
                stderr=log,
            )

    def ended(self) -> int:
        """Wait for its own end; its exit status."""
        assert self._process is not None
        status = self._process.wait(PATIENCE)
        self._process = None
        return status

    def kill(self) -> None:
        if self._process is not None:
            assert self._process.poll() is None, self._log.read_text()
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    server = make_server(unlimited=True)
    server.start()
    return server


@pytest.fixture
def bot(server: Server, tmp_path: Path) -> Iterator[Bot]:
    log = tmp_path / "bot.txt"
    bot = Bot(server.url, log)
    yield bot
    bot.kill()
    watch.logged(log.read_text())


async def on_line(client: Client) -> None:
    """Return once the bot is."""
    async with asyncio.timeout(PATIENCE):
        while BOT not in [one.email async for one in client.users(online=True)]:
            await asyncio.sleep(0.02)


CRASHING = """
import os, runpy, sys
from chatd.client import Client
Client.received = lambda *_: os._exit(9)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""The same bot, which dies where it has answered and is about to confirm."""


async def test_a_bot_that_dies_behind_an_answer_does_not_give_it_again(
    io_loop: Any, server: Server, bot: Bot
) -> None:
    """Seen to fail with a bot that leaves the client_id of its answers to chance."""
    async with listening(server.url, ANN) as ann:
        bot.start("-c", CRASHING)
        await on_line(ann.client)
        await ann.client.send("one", to=BOT)
        assert await asyncio.to_thread(bot.ended) == 9
        await ann.client.send("two", to=BOT)
        bot.start()
        await ann.until(lambda: "two" in answers(ann.of(Message)))
        assert answers(ann.of(Message)) == ["one", "two"]


async def test_the_bot_answers_everything_once_though_it_and_the_server_are_killed(
    io_loop: Any,
    server: Server,
    bot: Bot,
    scale: Scale,
    chance: random.Random,
    report: Report,
) -> None:
    """Seen to fail with a bot that is not ``explicit``."""
    kills, messages = scale(2, 40), 40
    asked: list[str] = []
    async with listening(server.url, ANN) as ann:
        bot.start()
        await on_line(ann.client)

        async def ask() -> None:
            text = f"question {len(asked)}"
            asked.append(text)
            await ann.client.send(text, to=BOT)

        for number in range(kills):
            heard = len(ann.of(Message))
            asking = [asyncio.create_task(ask()) for _ in range(messages)]
            await ann.until(lambda: len(ann.of(Message)) > heard)  # noqa: B023
            await asyncio.sleep(chance.uniform(0.0, 0.03))
            if number % 2:
                server.kill()
                await asyncio.to_thread(server.restart)
            else:
                bot.kill()
                bot.start()
            await asyncio.gather(*asking)
        await ann.until(lambda: len(answers(ann.of(Message))) >= len(asked))
        await ann.client.send("the last one", to=BOT)
        await ann.until(lambda: "the last one" in answers(ann.of(Message)))
        assert sorted(answers(ann.of(Message))) == sorted([*asked, "the last one"])
        report(f"{kills} kills of the bot or the server: {len(asked)} messages answered once")


def answers(messages: list[Message]) -> list[str]:
    return [one.text for one in messages if one.sender == BOT]
