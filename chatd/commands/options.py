"""What commands have in common: where the settings come from, and how answers are told."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from chatd.settings import Origins, Settings, SettingsError

Command = TypeVar("Command", bound=Callable[..., Any])

BAD_SETTINGS: Final = 2
"""The exit status where settings or arguments can't be used."""

FAILED: Final = 1
"""The exit status for what went wrong later."""

_PATH: Final = click.Path(path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")

confirmed = click.option("--yes", is_flag=True, help="Don't ask whether this is meant.")


def settings_options(command: Command) -> Command:
    """Options that say where the settings come from; hand what they give to `origins`."""
    for option in (
        click.option("--data-dir", type=_PATH, help="Where the server keeps its files."),
        click.option("--storage", help="memory: | sqlite:PATH | mongodb://HOST/DATABASE."),
        click.option("--config", type=_PATH, help="A TOML file, like conf/chatd.toml."),
    ):
        command = option(command)
    return command


def origins(
    config: Path | None,
    storage: str | None,
    data_dir: Path | None,
    others: Mapping[str, object] | None = None,
) -> Origins:
    """Where the settings come from; ``others`` are given on the command line too."""
    overrides = {"storage.url": storage, "storage.data_dir": data_dir, **(others or {})}
    return Origins(config, os.environ, overrides, {"storage.data_dir": _home() / "var"})


def load_or_fail(where: Origins) -> Settings:
    """The settings; where there is something wrong with them, say so and exit."""
    try:
        return where.load()
    except SettingsError as error:
        fail(str(error), BAD_SETTINGS)


def sure(question: str, *, yes: bool) -> None:
    """Ask, unless it was answered before; whoever is not sure, or can't be asked, ends here."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def tell(answer: object, text: str, *, in_json: bool) -> None:
    """Print the answer, for programs or for people."""
    say(json.dumps(answer, indent=2, ensure_ascii=False) if in_json else text)


def say(text: str) -> None:
    """Print it; where that can't be, say so and exit."""
    try:
        click.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click's to end: whoever reads has had enough
        # What is left to write would be tried again, and complained of, at the end.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        fail(f"standard output can't be written: {error.strerror}", FAILED)


def sentence(error: Exception) -> str:
    """What went wrong; of the system's errors the file and the reason."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong, a line each, and exit."""
    for line in message.splitlines():
        click.echo(f"chatd: {line}", err=True)
    sys.exit(code)


def _home() -> Path:
    """What the default data folder lies in: the checkout, or, once installed, where one is."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "bin" / "chatd").is_file() else Path()
