"""``chatd config``, as an administrator types it."""

from __future__ import annotations

import json
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chatd.cli import main
from chatd.settings import fields, load

EXAMPLE = Path(__file__).parent.parent.parent / "conf" / "chatd.toml"


def chatd(*arguments: str, **environment: str) -> Result:
    with ThreadPoolExecutor(1) as aside:  # there may be a loop here already
        given = ["config", *arguments]
        return aside.submit(CliRunner().invoke, main, given, env=environment).result()


def test_the_example_is_good(tmp_path: Path) -> None:
    result = chatd("check", "--config", str(EXAMPLE), "--data-dir", str(tmp_path))
    assert (result.exit_code, result.output) == (0, "The settings are good.\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_named_with_its_source_and_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[server]\nport = 70000\nhots = 1")
    result = chatd("check", "--config", str(file))
    assert result.exit_code == 2
    wrong, unknown = sorted(result.stderr.splitlines())
    assert wrong.startswith(
        f"chatd: {file}: server.hots is not a setting; did you mean server.host"
    )
    assert unknown.startswith(f"chatd: {file}: server.port: 70000 should be less than or equal to")
    told = json.loads(chatd("check", "--json", "--config", str(file)).stdout)
    assert told["good"] is False
    assert [f"chatd: {one}" for one in sorted(told["problems"])] == [wrong, unknown]


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("mongodb://", 'should be "memory:", "sqlite:PATH" or "mongodb://HOST/DATABASE"'),
        ("sqlite://x", "without slashes in between"),
    ],
)
def test_a_store_that_can_not_be_is_found_without_serving(storage: str, sentence: str) -> None:
    result = chatd("check", "--storage", storage)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_key_file_that_is_refused_is_found_without_serving(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    (tmp_path / "keys.json").chmod(0o600)
    result = chatd("check", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "holds no key" in result.stderr


@pytest.mark.parametrize(
    ("storage", "nats", "sentence"),
    [
        ("sqlite:chatd.db", "nats://127.0.0.1:4222", "set storage.url to a mongodb:// URL"),
        ("mongodb://127.0.0.1/chatd", "nats://nats.example.org", "give cluster.nats_user"),
    ],
)
def test_servers_that_could_not_work_together_are_found_without_serving(
    tmp_path: Path, storage: str, nats: str, sentence: str
) -> None:
    arguments = ("check", "--data-dir", str(tmp_path), "--storage", storage)
    result = chatd(*arguments, CHATD_CLUSTER__NATS_URL=nats)
    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("module", "setting", "extra"),
    [
        ("chatd.cluster.join", {"CHATD_CLUSTER__NATS_URL": "nats://127.0.0.1"}, "cluster"),
        ("sentry_sdk", {"CHATD_LOGGING__SENTRY_DSN": "https://key@sentry.example/1"}, "sentry"),
    ],
)
def test_an_extra_that_is_not_installed_is_found_without_serving(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    setting: dict[str, str],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ("check", "--data-dir", str(tmp_path), "--storage", "mongodb://127.0.0.1/chatd")
    result = chatd(*arguments, **setting)
    assert result.exit_code == 2
    assert f"pip install '.[{extra}]'" in result.stderr


def test_what_is_risky_is_good_and_said(tmp_path: Path) -> None:
    environment = {"CHATD_SERVER__HOST": "0.0.0.0", "CHATD_SERVER__ALLOWED_HOSTS": "*"}
    result = chatd("check", "--data-dir", str(tmp_path), **environment)
    assert result.exit_code == 0
    assert "a proxy that speaks TLS" in result.output
    told = json.loads(chatd("check", "--json", **environment).stdout)
    events = [risk["event"] for risk in told["risks"]]
    assert (told["good"], events) == (True, ["server.no_tls", "server.any_host_allowed"])


def test_every_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[limits]\nreplay = 7")
    arguments = ("show", "--json", "--config", str(file), "--storage", "memory:")
    shown = json.loads(chatd(*arguments, CHATD_SERVER__PORT="81").stdout)
    assert shown.keys() == fields().keys()
    assert shown["limits.replay"] == {"value": 7, "source": str(file)}
    assert shown["server.port"] == {"value": 81, "source": "environment CHATD_SERVER__PORT"}
    assert shown["storage.url"] == {"value": "memory:", "source": "command line"}
    assert shown["websocket.ping_seconds"] == {"value": 20, "source": "default"}


def test_what_is_shown_is_a_file_for_a_server(tmp_path: Path) -> None:
    environment = {
        "CHATD_SERVER__ALLOWED_HOSTS": "a.example,b.example",
        "CHATD_SERVER__TRUSTED_PROXIES": "10.0.0.0/8",
    }
    file = tmp_path / "shown.toml"
    file.write_text(chatd("show", "--data-dir", str(tmp_path), **environment).stdout)
    assert tomllib.loads(file.read_text())["server"]["allowed_hosts"] == ["a.example", "b.example"]
    again = load(file, {}, {})
    assert again == load(None, environment, {"storage.data_dir": tmp_path})


@pytest.mark.parametrize(
    "environment",
    [
        {"CHATD_RETENTION__GROUPS": '{"news": 3, "no.dots-here": 0.5}'},
        {"CHATD_AUTH__ISSUER": 'chatd😀 "quoted" \\ \t\x7f'},
        {"CHATD_AUTH__SIGNUP": "domains", "CHATD_AUTH__SIGNUP_DOMAINS": "münchen.de,corp.org"},
    ],
)
def test_what_is_shown_is_good(tmp_path: Path, environment: dict[str, str]) -> None:
    """Seen to fail with values written as JSON has them."""
    file = tmp_path / "shown.toml"
    file.write_text(chatd("show", "--data-dir", str(tmp_path), **environment).stdout)
    result = chatd("check", "--config", str(file))
    assert (result.exit_code, result.output) == (0, "The settings are good.\n")
    assert load(file, {}, {}) == load(None, environment, {"storage.data_dir": tmp_path})


@pytest.mark.parametrize(
    ("storage", "data_dir", "sentence"),
    [
        ("mongodb://127.0.0.1/chatd?foo=bar", "data", "Unknown option: foo"),
        ("mongodb://[::1/db", "data", "'[' and ']'"),
        ("mongodb://u:se/hush@h/db", "data", "must be percent-encoded"),
        ("sqlite:/etc", "data", "/etc is a folder: name a file"),
        ("sqlite:/etc/passwd/chatd.db", "data", "/etc/passwd is no folder: name one"),
        ("sqlite:chatd.db", "/etc/passwd", "/etc/passwd is no folder: name one"),
        ("sqlite:chatd.db", "/etc/passwd/data", "/etc/passwd is no folder: name one"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # they are errors in tests only
def test_places_that_can_not_be_are_found_without_serving(
    tmp_path: Path, storage: str, data_dir: str, sentence: str
) -> None:
    result = chatd("check", "--storage", storage, "--data-dir", str(tmp_path / data_dir))
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "hush" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://ann:hush@db1,db2/chatd", "mongodb://(hidden)@db1,db2/chatd"),
        ("mongodb://ann:h/hush@db1:1/chatd", "mongodb://(hidden)@db1:1/chatd"),
        ("mongodb://ann:h@hush@[::1]:1/chatd", "mongodb://(hidden)@[::1]:1/chatd"),
        ("mongodb://ann:h?hush@db1/chatd", "mongodb://(hidden)@db1/chatd"),
        (
            "mongodb://db1/chatd?tls=true&tlsCertificateKeyFilePassword=hush;w=1",
            "mongodb://db1/chatd?tls=(hidden)&tlsCertificateKeyFilePassword=(hidden)&w=(hidden)",
        ),
        (
            "mongodb://db1/?authMechanismProperties=AWS_SESSION_TOKEN:hush",
            "mongodb://db1/?authMechanismProperties=(hidden)",
        ),
        ("mongodb://db1?hush", "mongodb://db1?(hidden)"),
        ("mongodb://ann:hush", "(hidden)"),
        ("mongodb://[::1/db", "(hidden)"),
        ("sqlite:chatd.db", "sqlite:chatd.db"),
    ],
)
def test_of_a_stores_url_only_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    told = json.loads(chatd("show", "--json", "--storage", url).stdout)
    assert told["storage.url"]["value"] == shown


def test_no_secret_is_shown() -> None:
    environment = {
        "CHATD_METRICS__TOKEN": "8c1f2d9e0a77bb31",
        "CHATD_STORAGE__URL": "mongodb://ann:hush@db1,db2/chatd?replicaSet=rs0",
        "CHATD_UUIDS__SOURCE": "https://ann:hush@ids.example/new?token=hush",
    }
    for arguments in (["show"], ["show", "--json"]):
        shown = chatd(*arguments, **environment).stdout
        assert "hush" not in shown
        assert "8c1f2d9e0a77bb31" not in shown
        assert "mongodb://(hidden)@db1,db2/chatd?replicaSet=(hidden)" in shown
        assert "https://(hidden)@ids.example/new?token=(hidden)" in shown
