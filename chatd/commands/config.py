"""``chatd config``: whether the settings are good, what they are, and where each comes from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any, Final

import click

from chatd.building import load_cluster
from chatd.commands.options import (
    BAD_SETTINGS,
    as_json,
    fail,
    load_or_fail,
    origins,
    settings_options,
    tell,
)
from chatd.commands.places import check_places
from chatd.deployment import UnsafeDeployment, dangers, refuse_open_cluster
from chatd.errors import Unavailable
from chatd.keys import KeyFileRefused, KeyRing
from chatd.sentry import reporter
from chatd.settings import Settings, SettingsError, fields
from chatd.storage.refused import StorageRefused

_HIDDEN: Final = "(hidden)"
_COLUMN: Final = 50
_HOST: Final = r"(?:[^][:/?@]+|\[[0-9A-Fa-f:.]+\])(?::\d*)?"
_URL: Final = re.compile(
    rf"(?P<scheme>[a-z+]+://)(?P<user>.*@)?(?P<place>{_HOST}(?:,{_HOST})*(?:/[^?]*)?)"
    r"(?:\?(?P<query>.*))?",
    re.DOTALL,
)
"""A user or password that should be percent-encoded, and is not, may hold anything."""


@click.group()
def config() -> None:
    """Look at the settings without serving."""


@config.command()
@settings_options
@as_json
def check(config: Path | None, storage: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Say whether a server would start with these settings, and what is risky about them.

    The exit status is 0 where they are good, risky or not, and 2 where they are not.
    """
    where = origins(config, storage, data_dir)
    try:
        settings = where.load()
        _try(settings)
    except (SettingsError, KeyFileRefused, StorageRefused, UnsafeDeployment, ValueError) as error:
        problems = str(error).splitlines()
        if as_json:
            tell({"good": False, "problems": problems, "risks": []}, "", in_json=True)
            raise SystemExit(BAD_SETTINGS) from None
        fail(str(error), BAD_SETTINGS)
    risks = [{"event": one.event, "remedy": one.remedy} for one in dangers(settings)]
    lines = ["The settings are good.", *(f"Risky: {one['remedy']}" for one in risks)]
    tell({"good": True, "problems": [], "risks": risks}, "\n".join(lines), in_json=as_json)


def _try(settings: Settings) -> None:
    """Raise what a server would refuse to start with, without making or opening anything."""
    check_places(settings)
    if settings.storage.url.startswith("mongodb"):
        asyncio.run(_try_mongodb(settings.storage.url))
    if settings.key_path.exists():
        KeyRing.open(settings.key_path)
    refuse_open_cluster(settings)
    if settings.cluster.nats_url is not None:
        load_cluster()
    if settings.logging.sentry_dsn is not None:
        reporter(settings.logging.sentry_dsn.get_secret_value())


async def _try_mongodb(url: str) -> None:
    # The driver takes a while to load: only those wait who use it.
    from chatd.storage.mongo.connection import connect  # noqa: PLC0415

    # A server that DNS does not tell of its hosts goes on trying.
    with contextlib.suppress(Unavailable):
        connect(url).close()


@config.command()
@settings_options
@as_json
def show(config: Path | None, storage: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Print every setting as it would hold, and where its value comes from.

    The text is TOML that a server can be given, but for secrets, which are hidden.
    """
    where = origins(config, storage, data_dir)
    values = _values(load_or_fail(where))
    sources = where.sources()
    lines = [
        f"{_line(key, value):{_COLUMN}} # {sources[key]}".rstrip() for key, value in values.items()
    ]
    answer = {key: {"value": values[key], "source": sources[key]} for key in values}
    tell(answer, "\n".join(lines), in_json=as_json)


def _line(key: str, value: Any) -> str:
    return f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    """As JSON but for its objects, and for DEL, which TOML has no bare form of."""
    if isinstance(value, dict):
        items = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")


def _values(settings: Settings) -> dict[str, Any]:
    """Every setting as JSON has it, by dotted key."""
    document = settings.model_dump(mode="json")
    found = {}
    for key, field in fields().items():
        section, name = key.split(".")
        value = document[section][name]
        found[key] = value if field.repr or value is None else _without_secret(str(value))
    return found


def _without_secret(text: str) -> str:
    """A URL without its user and its options' values; anything else is hidden as a whole."""
    if text in ("local", "memory:") or text.startswith("sqlite:"):
        return text
    url = _URL.fullmatch(text)
    if url is None:
        return _HIDDEN
    user = f"{_HIDDEN}@" if url["user"] else ""
    query = f"?{_hidden_values(url['query'])}" if url["query"] else ""
    return f"{url['scheme']}{user}{url['place']}{query}"


def _hidden_values(query: str) -> str:
    named = (part.partition("=") for part in re.split("[&;]", query))
    return "&".join(f"{name}={_HIDDEN}" if equals else _HIDDEN for name, equals, _ in named)
