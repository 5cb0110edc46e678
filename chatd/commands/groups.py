"""``chatd group``: groups and who is in them."""

from __future__ import annotations

from typing import Any

import click

from chatd.commands.options import (
    as_json,
    confirmed,
    load_or_fail,
    origins,
    settings_options,
    sure,
    tell,
)
from chatd.commands.run import run
from chatd.commands.tables import facts, table


@click.group()
def group() -> None:
    """Look after groups."""


@group.command("list")
@click.option("--prefix", default="", help="How the name starts.")
@settings_options
@as_json
def list_groups(prefix: str, as_json: bool, **where: Any) -> None:
    """All groups."""
    found = run(load_or_fail(origins(**where)), "groups", {"prefix": prefix.lower()})
    columns = {
        "name": "NAME",
        "title": "TITLE",
        "members": "MEMBERS",
        "messages": "MESSAGES",
        "created_at": "CREATED",
        "created_by": "BY",
    }
    tell(found, table(columns, found), in_json=as_json)


@group.command()
@click.argument("name")
@settings_options
@as_json
def show(name: str, as_json: bool, **where: Any) -> None:
    """One group."""
    found = run(load_or_fail(origins(**where)), "group", {"name": name})
    tell(found, facts(found), in_json=as_json)


@group.command()
@click.argument("name")
@settings_options
@as_json
def members(name: str, as_json: bool, **where: Any) -> None:
    """Everybody who is in a group, and how far they have got."""
    found = run(load_or_fail(origins(**where)), "members", {"group": name})
    columns = {
        "email": "E-MAIL",
        "joined_at": "JOINED",
        "delivered_seq": "DELIVERED",
        "read_seq": "READ",
    }
    tell(found, table(columns, found), in_json=as_json)


@group.command()
@click.argument("name")
@confirmed
@settings_options
@as_json
def delete(name: str, yes: bool, as_json: bool, **where: Any) -> None:
    """Remove a group, its memberships, and what was written in it, for good."""
    sure(f"Delete the group {name}, and all that was written in it?", yes=yes)
    done = run(load_or_fail(origins(**where)), "delete_group", {"name": name})
    tell(
        done,
        "The group {name} is deleted; it had {messages} messages.".format(**done),
        in_json=as_json,
    )
