"""``chatd config``: whether the settings are good, what they are, and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

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
from chatd.deployment import UnsafeDeployment, dangers, refuse_open_cluster
from chatd.keys import KeyFileRefused, KeyRing
from chatd.sentry import reporter
from chatd.settings import Settings, SettingsError, fields
from chatd.storage import open_storage

_HIDDEN: Final = "(hidden)"
_COLUMN: Final = 50


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
    except (SettingsError, KeyFileRefused, UnsafeDeployment, ValueError) as error:
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
    open_storage(settings.storage.url, settings.storage.data_dir)
    if settings.key_path.exists():
        KeyRing.open(settings.key_path)
    refuse_open_cluster(settings)
    if settings.cluster.nats_url is not None:
        load_cluster()
    if settings.logging.sentry_dsn is not None:
        reporter(settings.logging.sentry_dsn.get_secret_value())


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
    return f"# {key} is not set" if value is None else f"{key} = {json.dumps(value)}"


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
    """A URL with its password hidden; anything else is hidden as a whole."""
    if ":" not in text and text != "local":
        return _HIDDEN
    parts = urlsplit(text)
    if parts.password is None:
        return text
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:{_HIDDEN}@{place}").geturl()
