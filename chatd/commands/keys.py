"""``chatd key``: the keys that tokens are signed with."""

from __future__ import annotations

import click
import msgspec

from chatd.commands.options import as_json, tell
from chatd.keys import Key, KeySet


@click.group()
def key() -> None:
    """Keys that tokens are signed with."""


@key.command()
@click.option("--set", "whole", is_flag=True, help="Print a whole key file, with this one key.")
@as_json
def new(whole: bool, as_json: bool) -> None:
    """Print a new random key, as an entry of "keys" in the key file (auth.key_file).

    The first key of the file signs tokens, every one is accepted. The server reads the file
    again when it is sent SIGHUP. Only the server's user may be able to read it: chmod 600.
    """
    single = Key.new()
    made = KeySet((single,)) if whole else single
    tell(msgspec.to_builtins(made), msgspec.json.encode(made).decode(), in_json=as_json)
