"""``chatd export`` and ``chatd erase``: what is known of a person, and that it is known no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from chatd.addresses import normalize_email
from chatd.commands.options import (
    FAILED,
    as_json,
    confirmed,
    fail,
    load_or_fail,
    origins,
    say,
    sentence,
    settings_options,
    sure,
    tell,
)
from chatd.commands.run import run
from chatd.settings import Settings

_user = click.argument("user")


@click.command()
@_user
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="A new file for it.")
@settings_options
def export(user: str, to: Path | None, **where: Any) -> None:
    """Everything of a person, as JSON.

    That is the account, its memberships, the whole of its one-to-one conversations, and what it
    wrote in groups. Without --to it goes to standard output.
    """
    found = run(load_or_fail(origins(**where)), "export_user", {"email": user})
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if to is None:
        say(text)
        return
    try:
        # For nobody else's eyes, from the first moment.
        to.touch(0o600, exist_ok=False)
        to.write_text(text + "\n", "utf-8")
    except OSError as error:
        fail(sentence(error), FAILED)
    say(f"{to} has everything of {user}.")


@click.command()
@_user
@confirmed
@settings_options
@as_json
def erase(user: str, yes: bool, as_json: bool, **where: Any) -> None:
    """Erase a person, for good.

    Their conversations stay readable for the others: an author whose address says nothing stands
    for them. `chatd user delete` takes the texts away as well.
    """
    settings = load_or_fail(origins(**where))
    sure_of_account(settings, user, f"Erase {user}?", yes=yes)
    erased = run(settings, "erase_user", {"email": user})
    tell_end("erased", erased, in_json=as_json)


def sure_of_account(settings: Settings, email: str, question: str, *, yes: bool) -> None:
    """Ask, unless it was answered before, and only of an account that there is."""
    if yes:
        return
    try:
        address = normalize_email(email)
    except ValueError:
        address = ""
    # One that is being erased is listed, and shown no more.
    listed = run(settings, "users", {"prefix": address})
    if address not in [one["email"] for one in listed]:
        run(settings, "user", {"email": email})
    sure(question, yes=False)


def tell_end(how: str, ended: Mapping[str, Any], *, in_json: bool) -> None:
    """Say who was erased or deleted, and what remains."""
    lines = [f"{ended['email']} is {how}. What remains:"]
    lines += [f"- {what}" for what in ended["remains"]]
    tell(ended, "\n".join(lines), in_json=in_json)
