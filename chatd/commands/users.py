"""``chatd user`` and ``chatd token``: accounts, on a running server or on its store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from chatd.commands.options import (
    BAD_SETTINGS,
    as_json,
    confirmed,
    fail,
    load_or_fail,
    origins,
    settings_options,
    tell,
)
from chatd.commands.privacy import sure_of_account, tell_end
from chatd.commands.run import run
from chatd.commands.tables import facts, table

_DAY: Final = 24 * 60 * 60
"""Seconds."""
_MOST_DAYS: Final = 3650

_email = click.argument("email")
_password = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@click.group()
def user() -> None:
    """Look after accounts.

    With a server running on the data folder it does what is asked, at once; without one the
    store itself is opened.
    """


@user.command("list")
@click.option("--prefix", default="", help="How the address starts.")
@settings_options
@as_json
def list_users(prefix: str, as_json: bool, **where: Any) -> None:
    """All accounts."""
    found = _run("users", {"prefix": prefix.lower()}, where)
    columns = {
        "email": "E-MAIL",
        "created_at": "CREATED",
        "last_seen_at": "LAST SEEN",
        "online": "ONLINE",
        "disabled": "DISABLED",
    }
    tell(found, table(columns, found), in_json=as_json)


@user.command()
@_email
@settings_options
@as_json
def show(email: str, as_json: bool, **where: Any) -> None:
    """One account."""
    found = _run("user", {"email": email}, where)
    tell(found, facts(found), in_json=as_json)


@user.command()
@_email
@_password
@settings_options
@as_json
def add(email: str, password_stdin: bool, as_json: bool, **where: Any) -> None:
    """Make an account, whoever may sign up. Without a password it gets a random one."""
    arguments = {"email": email, "password": _read(password_stdin)}
    made = run(load_or_fail(origins(**where)), "add_user", arguments, makes_store=True)
    tell(made, _told("The account {email} is made.", made), in_json=as_json)


@user.command("reset-password")
@_email
@_password
@settings_options
@as_json
def reset_password(email: str, password_stdin: bool, as_json: bool, **where: Any) -> None:
    """Give an account another password, and sign it out everywhere."""
    made = _run("reset_password", {"email": email, "password": _read(password_stdin)}, where)
    tell(made, _told("The password of {email} is another one now.", made), in_json=as_json)


@user.command()
@_email
@settings_options
@as_json
def disable(email: str, as_json: bool, **where: Any) -> None:
    """Sign an account out everywhere, and let nobody sign in to it."""
    done = _run("disable_user", {"email": email}, where)
    tell(done, f"The account {done['email']} is disabled.", in_json=as_json)


@user.command()
@_email
@settings_options
@as_json
def enable(email: str, as_json: bool, **where: Any) -> None:
    """Let a disabled account sign in again, with the password it had."""
    done = _run("enable_user", {"email": email}, where)
    tell(done, f"The account {done['email']} is enabled.", in_json=as_json)


@user.command("sign-out")
@_email
@settings_options
@as_json
def sign_out(email: str, as_json: bool, **where: Any) -> None:
    """End every token and every connection of an account."""
    done = _run("sign_out_user", {"email": email}, where)
    tell(done, f"{done['email']} is signed out everywhere.", in_json=as_json)


@user.command()
@_email
@confirmed
@settings_options
@as_json
def delete(email: str, yes: bool, as_json: bool, **where: Any) -> None:
    """Remove an account and the texts it wrote, for good; `chatd erase` leaves the texts."""
    settings = load_or_fail(origins(**where))
    sure_of_account(settings, email, f"Delete {email}, and all that it wrote?", yes=yes)
    tell_end("deleted", run(settings, "delete_user", {"email": email}), in_json=as_json)


@click.group()
def token() -> None:
    """Tokens for programs."""


@token.command()
@_email
@click.option("--days", type=float, help="How long it is good; else as long as all tokens are.")
@settings_options
@as_json
def issue(email: str, days: float | None, as_json: bool, **where: Any) -> None:
    """Print a token with which a program acts as this user."""
    seconds = None if days is None else _seconds(days)
    issued = _run("issue_token", {"email": email, "seconds": seconds}, where)
    tell(issued, issued["token"], in_json=as_json)


def _run(operation: str, arguments: dict[str, Any], where: dict[str, Any]) -> Any:
    return run(load_or_fail(origins(**where)), operation, arguments)


def _seconds(days: float) -> int:
    if not 1 / _DAY <= days <= _MOST_DAYS:  # nor is "nan"
        fail(f"--days is {days:g}, and goes from 1/{_DAY} to {_MOST_DAYS} days", BAD_SETTINGS)
    return round(days * _DAY)


def _read(from_stdin: bool) -> str | None:
    if not from_stdin:
        return None
    try:
        password = sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        fail("the password on standard input should be UTF-8 text", BAD_SETTINGS)
    return password or fail("standard input has no password", BAD_SETTINGS)


def _told(sentence: str, made: Mapping[str, str | None]) -> str:
    lines = [sentence.format(email=made["email"])]
    if made["password"] is not None:
        lines.append(f"Its password, which is told only now: {made['password']}")
    return "\n".join(lines)
