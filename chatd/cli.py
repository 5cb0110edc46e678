"""The command line: ``chatd serve`` (what ``chatd`` alone does, too)."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import resource
import sys
from pathlib import Path

import click

from chatd import __version__
from chatd.commands.backup import backup, restore
from chatd.commands.chat import chat
from chatd.commands.config import config
from chatd.commands.copy import copy
from chatd.commands.doctor import doctor
from chatd.commands.groups import group
from chatd.commands.keys import key
from chatd.commands.options import (
    BAD_SETTINGS,
    FAILED,
    fail,
    load_or_fail,
    origins,
    sentence,
    settings_options,
)
from chatd.commands.places import check_places
from chatd.commands.privacy import erase, export
from chatd.commands.users import token, user
from chatd.deployment import UnsafeDeployment
from chatd.errors import Unavailable
from chatd.keys import KeyFileRefused
from chatd.process import serve as serve_app
from chatd.settings import Settings
from chatd.storage.base import Storage
from chatd.storage.refused import StorageRefused


class _ServeByDefault(click.Group):
    """``chatd --port 0`` is ``chatd serve --port 0``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if not args or (args[0] not in self.commands and args[0] not in own):
            self._check_is_option(ctx, args)
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def _check_is_option(self, ctx: click.Context, args: list[str]) -> None:
        if not args or args[0].startswith("-"):
            return
        near = difflib.get_close_matches(args[0], self.commands, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.commands)}"
        ctx.fail(f"there is no command {args[0]!r}; {hint}")


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chatd")
def main() -> None:
    """chatd: a self-hosted text-chat server. Without a command it serves."""


for part in (backup, chat, config, copy, doctor, erase, export, group, key, restore, token, user):
    main.add_command(part)


@main.command()
@settings_options
@click.option("--port", type=int, help="The port to bind; 0 takes a free one.")
@click.option("--host", help="The address to bind.")
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    storage: str | None,
    data_dir: Path | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    where = origins(config, storage, data_dir, {"server.host": host, "server.port": port})
    settings = load_or_fail(where)
    try:
        check_places(settings)
        _take_all_files()
        asyncio.run(serve_app(where, _announce))
    except (StorageRefused, KeyFileRefused, UnsafeDeployment, ValueError) as error:
        fail(str(error), BAD_SETTINGS if isinstance(error, ValueError) else FAILED)
    except Unavailable as error:
        fail(error.detail, FAILED)
    except OSError as error:
        if error.filename is not None:
            fail(sentence(error), FAILED)
        fail(f"can't serve on {_place(settings)}: {error.strerror or error}", FAILED)


def _take_all_files() -> None:
    """Raise the number of files that may be open, sockets too, as far as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _place(settings: Settings) -> str:
    return f"{settings.server.host}:{settings.server.port}"


def _announce(url: str, storage: Storage) -> None:
    print(f"chatd: {storage.promise}", file=sys.stderr)
    print(f"chatd: documentation at {url}/docs, chat at {url}/chat", file=sys.stderr)
    print(f"chatd: listening on {url}", flush=True)


if __name__ == "__main__":
    main(prog_name="chatd")
