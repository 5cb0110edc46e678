"""``chatd chat``: a terminal client, on `chatd.client`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Final

import click

from chatd.client import (
    Client,
    ClientError,
    Connected,
    Conversation,
    Disconnected,
    Event,
    Joined,
    Left,
    Message,
    Receipt,
    Refused,
)
from chatd.commands.options import BAD_SETTINGS, fail
from chatd.commands.terminal import Screen, Tick, screen, shown
from chatd.commands.ticks import Ticks

_URL: Final = "http://127.0.0.1:8080"
_RECENT: Final = 20
_INDENT: Final = " " * 9
"""What the second line of a text stands behind: a tick and a time."""
_AT_ONCE: Final = 100
"""Lines of a pipe that may be on their way."""
_HELP: Final = """\
/list            your conversations, and who is on line
NUMBER or NAME   open one of the list, a group, or a user by e-mail address
/open NAME       the same from within a conversation
/join NAME       join a group and open it
/create NAME     make a group and open it
/history [N]     the last N messages
/quit            leave; so does the end of the input
Everything else is said in the open conversation; //text says /text."""


@click.command()
@click.option("--url", default=_URL, show_default=True, envvar="CHAT_URL", help="The server's.")
@click.option("--email", envvar="CHAT_EMAIL", help="Your e-mail address, else it is asked for.")
def chat(url: str, email: str | None) -> None:
    """Chat on the terminal, or through a pipe.

    The password is asked for, or comes from the environment variable CHAT_PASSWORD. (CHAT_, as
    what begins with CHATD_ are the server's settings.)
    """
    email = email or _ask("an e-mail address", "--email")
    password = os.environ.get("CHAT_PASSWORD") or _ask("a password", "CHAT_PASSWORD", hidden=True)
    try:
        asyncio.run(_chat(url, email, password))
    except ClientError as error:
        fail(shown(str(error)), 1)
    except KeyboardInterrupt:
        pass  # as good an end as any


def _ask(what: str, otherwise: str, *, hidden: bool = False) -> str:
    if not sys.stdin.isatty():
        fail(f"needs {what}: give {otherwise}, as there is no terminal to ask at", BAD_SETTINGS)
    answer: str = click.prompt(what[2:].strip().capitalize(), hide_input=hidden, err=True)
    return answer


async def _chat(url: str, email: str, password: str) -> None:
    async with await Client.sign_in(url, email, password) as client:
        with screen() as terminal:
            await Talk(client, terminal).go_on()


class Talk:
    """One user's conversations, one of which may be open."""

    def __init__(self, client: Client, terminal: Screen) -> None:
        self._client = client
        self._screen = terminal
        self._ticks = Ticks(terminal)
        self._open: Conversation | None = None
        self._listed: list[Conversation] = []
        # What arrives in the open conversation while its history is on its way.
        self._held: list[Message] | None = None
        self._saying: Counter[tuple[Conversation, str]] = Counter()
        self._sends: set[asyncio.Task[None]] = set()
        self._reads: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._started = asyncio.Event()
        self._is_live = True

    async def go_on(self) -> None:
        """Until the person leaves, or the server has ended it for good."""
        hearing = asyncio.create_task(self._hear())
        typing = asyncio.create_task(self._type())
        try:
            ended, _ = await asyncio.wait([hearing, typing], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
            if self._sends:
                self._screen.prompt = "sending; Ctrl-C leaves without "
                await asyncio.wait(self._sends)
        finally:
            tasks = [hearing, typing, *self._sends, *self._reads]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # -- what happens --------------------------------------------------------------------------

    async def _hear(self) -> None:
        async for event in self._client:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Message() if self._started.is_set():
                # What came before stands in the list, counted.
                self._take_message(event)
            case Connected() | Disconnected():
                self._take_state(event)
            case Receipt():
                self._ticks.take(event)
            case Joined() | Left() if event.conversation == self._open:
                verb = "joined" if isinstance(event, Joined) else "left"
                self._screen.print(f"* {shown(event.user)} {verb}")
            case _:
                pass
        if isinstance(event, Left):
            self._ticks.forget(event.conversation, event.user)

    def _take_state(self, event: Connected | Disconnected) -> None:
        is_live = isinstance(event, Connected)
        if isinstance(event, Disconnected) and self._is_live:
            self._screen.print(f"* off line: {shown(event.reason)}; trying again")
        elif is_live and not self._is_live:
            self._screen.print("* on line")
        self._is_live = is_live
        if is_live:
            self._started.set()

    def _take_message(self, message: Message) -> None:
        if message.own and self._saying[(message.conversation, message.text)]:
            return  # its answer was lost: it stands on the screen, and is on its way again
        if self._held is not None and message.conversation == self._open:
            self._held.append(message)
            return
        self._show(message)
        if message.conversation == self._open:
            self._go(self._read(message), self._reads)

    def _show(self, message: Message) -> None:
        where = message.conversation
        who = "you" if message.own else shown(message.sender)
        place = "" if where == self._open else f"[{shown(str(where))}] "
        text = f"{_clock(message.sent_at)} {place}{who}: {shown(message.text, _INDENT)}"
        tick = self._ticks.of(where, message.seq) if message.own else Tick.NONE
        line = self._screen.print(text, tick)
        if message.own:
            self._ticks.follow(where, message.seq, line, tick)

    # -- what is typed -------------------------------------------------------------------------

    async def _type(self) -> None:
        await self._started.wait()
        await self._list()
        self._screen.prompt = "> "
        async for line in self._screen.lines():
            if line.strip() == "/quit":
                return
            try:
                await self._do(line)
            except ClientError as error:
                self._complain(error)

    async def _do(self, line: str) -> None:
        command, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        match command:
            case "":
                pass
            case "/list":
                await self._list()
            case "/open":
                await self._open_named(argument)
            case "/join":
                await self._enter(Conversation(group=(await self._client.join(argument)).name))
            case "/create":
                group = await self._client.create_group(argument)
                await self._enter(Conversation(group=group.name))
            case "/history":
                await self._history(int(argument) if argument.isdecimal() else _RECENT)
            case _ if command.startswith("/") and not command.startswith("//"):
                self._screen.print(_HELP)
            case _ if self._open is None:
                await self._open_named(line.strip())
            case _:
                await self._say(self._open, line.removeprefix("/") if command[0] == "/" else line)

    async def _list(self) -> None:
        """Conversations, the newest first, then who else is on line."""
        summaries = [one async for one in self._client.conversations()]
        online = {one.email async for one in self._client.users(online=True)}
        unread = {one.conversation: one.unread for one in summaries}
        others = sorted(online - {one.user for one in unread} - {self._client.user})
        self._listed = [*unread, *(Conversation(user=one) for one in others)]
        self._open = None
        self._screen.prompt = "> "
        for number, where in enumerate(self._listed, 1):
            facts = [f"{unread[where]} unread"] if unread.get(where) else []
            facts += ["on line"] if where.user in online else []
            self._screen.print(f"{number:3} {shown(str(where)):30} {', '.join(facts)}".rstrip())
        if not self._listed:
            self._screen.print("Nobody to talk to yet: /create NAME, /join NAME, or an address.")

    async def _open_named(self, name: str) -> None:
        if name.isdecimal() and 0 < int(name) <= len(self._listed):
            await self._enter(self._listed[int(name) - 1])
        elif "@" in name:
            user = await self._client.find_user(name)
            await self._enter(Conversation(user=user.email))
        elif name:
            await self._enter(Conversation(group=name.lower()))

    async def _enter(self, where: Conversation) -> None:
        """Open a conversation; its newest messages have been read then."""
        if where.group is not None:
            async for member in self._client.members(where.group):
                if member.email != self._client.user:
                    self._ticks.know(where, member.email, member.delivered_seq, member.read_seq)
        self._open = where
        self._screen.prompt = f"{shown(str(where))}> "
        self._screen.print(f"== {shown(str(where))} ==")
        await self._history(_RECENT)

    async def _history(self, count: int) -> None:
        where = self._open
        if where is None:
            self._screen.print("Open a conversation first.")
            return
        limit = min(max(count, 1), 200)
        self._held = []
        try:
            found = await self._client.history(user=where.user, group=where.group, limit=limit)
        finally:
            held, self._held = self._held, None
        last = found.messages[-1].seq if found.messages else 0
        messages = [*found.messages, *(one for one in held if one.seq > last)]
        self._ticks.learn(messages)
        for message in messages:
            self._show(message)
        if messages:
            self._go(self._read(messages[-1]), self._reads)

    async def _say(self, where: Conversation, text: str) -> None:
        await self._room.acquire()
        self._saying[(where, text)] += 1
        self._go(self._send(where, text), self._sends)

    async def _send(self, where: Conversation, text: str) -> None:
        line = self._screen.print(
            f"{_clock(datetime.now().astimezone())} you: {text}", Tick.SENDING
        )
        try:
            sent = await self._client.send(text, to=where.user, group=where.group)
        except ClientError as error:
            self._screen.mark(line, Tick.REFUSED)
            self._complain(error)
        else:
            self._ticks.follow(where, sent.seq, line, Tick.SENDING)
        finally:
            self._saying[(where, text)] -= 1
            self._room.release()

    async def _read(self, message: Message) -> None:
        try:
            await self._client.read(message)
        except ClientError as error:
            self._complain(error)

    # -- and the rest --------------------------------------------------------------------------

    def _go(self, doing: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(doing)
        among.add(task)
        task.add_done_callback(among.discard)

    def _complain(self, error: ClientError) -> None:
        said = error.message if isinstance(error, Refused) else str(error)
        self._screen.print(f"! {shown(said)}")


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%H:%M}"
