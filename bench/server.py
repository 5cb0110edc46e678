"""A chatd server of its own, as an administrator starts it, and users who need no signing in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import uuid_utils

from bench.load import Client
from bench.processes import SERVER_CORE, on_core
from chatd.keys import KeyRing
from chatd.models import Group, User, now_ms
from chatd.security import Tokens
from chatd.settings import Settings, load
from chatd.storage import open_storage
from chatd.storage.base import Storage
from tests.chat import Chat
from tests.e2e.server import Server

T = TypeVar("T")

GROUP: Final = "everybody"
MEMORY: Final = "memory:"
SQLITE: Final = "sqlite:chatd.db"

NO_LIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {"CHATD_LIMITS__SEND_PER_SECOND": "0", "CHATD_LIMITS__CONNECTIONS_PER_ADDRESS": "0"}
)
_AT_ONCE: Final = 500
_SIGN_INS_AT_ONCE: Final = 10


class Person(NamedTuple):
    """A user, and a token that is good for hours."""

    email: str
    token: str

    def client(self, target: str = "") -> Client:
        return Client(f"/v1/ws?{urlencode({'Authorization': self.token})}", target)


class Site:
    """A data folder and a storage URL, with its users; they are there before any server is."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.storage = storage
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def people(self, count: int, *, group: str | None = None) -> list[Person]:
        """New users, as members of a new group where one is named."""
        # Who signs in pays for argon2: 10,000 users would take minutes.
        assert self.storage != MEMORY, "what is in memory is there for its own server only"
        settings = self._settings()
        keys = KeyRing.open(settings.key_path)
        tokens = Tokens(keys, settings.auth.issuer, settings.auth.token_seconds)
        users = [_user(f"user-{n}@example.org") for n in range(count)]

        async def store(storage: Storage) -> None:
            for some in _parts(users, _AT_ONCE):
                await asyncio.gather(*map(storage.create_user, some))
            if group is not None:
                await storage.create_group(Group(group, None, users[0].email, now_ms()))
                for some in _parts(users[1:], _AT_ONCE):
                    joins = [storage.join(group, one.email, now_ms()) for one in some]
                    await asyncio.gather(*joins)

        self.store(store)
        return [Person(one.email, tokens.issue(one).token) for one in users]

    def store(self, work: Callable[[Storage], Awaitable[None]]) -> None:
        """Do this to the storage. No server may have it open."""

        async def run() -> None:
            storage = open_storage(self.storage, self.folder)
            await storage.start()
            try:
                await work(storage)
            finally:
                await storage.close()

        asyncio.run(run())

    def _settings(self) -> Settings:
        return load(None, {}, {"storage.data_dir": self.folder, "storage.url": self.storage})

    @contextmanager
    def serving(self, limits: Mapping[str, str] = NO_LIMITS) -> Iterator[Server]:
        """A server on it, which ends with the context. ``limits``: of its environment."""
        server = Server(self.folder, storage=self.storage, environment=limits, measured=False)
        with closing(server):
            with on_core(SERVER_CORE):
                server.start()
            yield server


def port_of(server: Server) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def signed_up(server: Server, count: int) -> list[Person]:
    """New users by the front door: for a store that only the server itself can write to."""

    async def sign_up() -> list[Person]:
        with closing(Chat(server.url)) as chat:
            people: list[Person] = []
            for some in _parts(range(count), _SIGN_INS_AT_ONCE):
                users = await asyncio.gather(*(chat.user(f"user-{n}@example.org") for n in some))
                people += [Person(one.email, one.token) for one in users]
            return people

    return asyncio.run(sign_up())


def pairs(people: Sequence[Person]) -> list[Client]:
    """Neighbours in twos: the first writes to the second."""
    return [
        client
        for one, other in zip(people[::2], people[1::2], strict=True)
        for client in (one.client(f'"to":"{other.email}"'), other.client())
    ]


def crowd(people: Sequence[Person]) -> list[Client]:
    """Members of ``GROUP``: the first writes to all."""
    first, *others = people
    return [first.client(f'"group":"{GROUP}"'), *(one.client() for one in others)]


def _user(email: str) -> User:
    return User(id=str(uuid_utils.uuid7()), email=email, password_hash="", created_at=now_ms())


def _parts(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))
