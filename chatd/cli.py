"""The command line: ``chatd serve`` (what ``chatd`` alone does, too)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import NoReturn

import click

from chatd import __version__
from chatd.app import serve as serve_app
from chatd.deployment import UnsafeDeployment
from chatd.errors import Unavailable
from chatd.keys import KeyFileRefused
from chatd.settings import Settings, SettingsError, load
from chatd.storage.base import Storage
from chatd.storage.refused import StorageRefused


class _ServeByDefault(click.Group):
    """``chatd --port 0`` is ``chatd serve --port 0``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if not args or (args[0] not in self.commands and args[0] not in own):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chatd")
def main() -> None:
    """chatd: a self-hosted text-chat server. Without a command it serves."""


@main.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="A TOML file, like conf/chatd.toml."
)
@click.option("--host", help="The address to bind.")
@click.option("--port", type=int, help="The port to bind; 0 takes a free one.")
@click.option("--storage", help="memory: | sqlite:PATH | mongodb://HOST/DATABASE.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the server keeps its files."
)
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    storage: str | None,
    data_dir: Path | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    overrides = {
        "server.host": host,
        "server.port": port,
        "storage.url": storage,
        "storage.data_dir": data_dir,
    }
    try:
        settings = load(config, os.environ, overrides, {"storage.data_dir": _home() / "var"})
    except SettingsError as error:
        _fail(str(error), 2)
    try:
        _take_all_files()
        asyncio.run(serve_app(settings, _announce))
    except (StorageRefused, KeyFileRefused, UnsafeDeployment, ValueError) as error:
        _fail(str(error), 2 if isinstance(error, ValueError) else 1)
    except Unavailable as error:
        _fail(error.detail, 1)
    except OSError as error:
        _fail(f"can't serve on {_place(settings)}: {error.strerror or error}", 1)


def _take_all_files() -> None:
    """Raise the number of files that may be open, sockets too, as far as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _home() -> Path:
    """What the default data folder lies in: the checkout, or, once installed, where one is."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "bin" / "chatd").is_file() else Path()


def _place(settings: Settings) -> str:
    return f"{settings.server.host}:{settings.server.port}"


def _announce(url: str, storage: Storage) -> None:
    print(f"chatd: {storage.promise}", file=sys.stderr)
    print(f"chatd: documentation at {url}/docs, chat at {url}/chat", file=sys.stderr)
    print(f"chatd: listening on {url}", flush=True)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"chatd: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="chatd")
