"""``chatd key``, as an administrator types it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from chatd.cli import main
from chatd.keys import Key, KeyRing


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["key", "new", *arguments])
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_printed_file_is_one_that_a_server_takes(tmp_path: Path, form: tuple[str, ...]) -> None:
    file = tmp_path / "keys.json"
    file.touch(mode=0o600)
    file.write_text(printed("--set", *form))
    assert len(KeyRing.open(file).signing) == 32


def test_a_printed_key_goes_into_a_file_and_is_another_one_each_time(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.touch(mode=0o600)
    keys = [printed(), printed()]
    file.write_text(f'{{"keys": [{",".join(keys)}]}}')
    first, second = (msgspec.json.decode(key, type=Key) for key in keys)
    ring = KeyRing.open(file)
    assert ring.signing == first.secret
    assert ring.find(second.key_id) == second.secret != first.secret
