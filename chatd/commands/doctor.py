"""``chatd doctor``: whether the store and what it needs are sound, and how to mend what is not."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from chatd.commands.options import as_json, load_or_fail, origins, settings_options, tell
from chatd.commands.run import run
from chatd.doctor import Doctor
from chatd.keys import KeyFileRefused, KeyRing
from chatd.settings import Settings
from chatd.storage import open_storage


@click.command()
@settings_options
@as_json
def doctor(as_json: bool, **where: Any) -> None:
    """Look through the whole store, and at the key file.

    The exit status is 0 where all is well, 1 where anything was found.
    """
    settings = load_or_fail(origins(**where))
    report = run(settings, "examine", {}, alone=_examine)
    report["findings"] += _key_file(settings)
    lines = [
        "Looked at {users} users, {groups} groups, {conversations} conversations with"
        " {messages} messages.".format(**report)
    ]
    lines += ["{where}: {what}: {mend}.".format(**one) for one in report["findings"]]
    if not report["findings"]:
        lines.append("All is well.")
    tell(report, "\n".join(lines), in_json=as_json)
    if report["findings"]:
        raise SystemExit(1)


async def _examine(settings: Settings, *_: object) -> Any:
    """Nothing but the store is opened: what is wrong with the key file is a finding of its own."""
    storage = open_storage(settings.storage.url, settings.storage.data_dir)
    try:
        await storage.start()
        return msgspec.to_builtins(await Doctor(storage).examine())
    finally:
        await storage.close()


def _key_file(settings: Settings) -> list[dict[str, str]]:
    path = settings.key_path
    if not path.exists():
        return []
    try:
        KeyRing.open(path)
    except KeyFileRefused as error:
        what, _, mend = str(error).partition(": ")
        return [{"where": str(path), "what": what, "mend": mend.rstrip(".")}]
    return []
