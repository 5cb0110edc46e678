from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from chatd.settings import Settings, SettingsError, fields, load

EXAMPLE = Path(__file__).parent.parent / "conf" / "chatd.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "chatd.toml"


def lines(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> list[str]:
    """What is wrong, one line per error."""
    with pytest.raises(SettingsError) as refused:
        load(config, environ or {}, overrides or {})
    return str(refused.value).splitlines()


def line(config: Path, document: str) -> str:
    """The one thing that is wrong with a file of this text."""
    config.write_text(document)
    (only,) = lines(config)
    return only


def environment_line(name: str, text: str) -> str:
    (only,) = lines(environ={name: text})
    return only


# -- where a value comes from ----------------------------------------------------------------


def test_without_anything_given_the_defaults_hold() -> None:
    assert load(None, {}, {}) == Settings()


def test_the_file_goes_before_the_default(config: Path) -> None:
    config.write_text("[server]\nport = 1001")
    assert load(config, {}, {}).server.port == 1001


def test_the_environment_goes_before_the_file(config: Path) -> None:
    config.write_text('[server]\nport = 1001\nhost = "::1"')
    settings = load(config, {"CHATD_SERVER__PORT": "1002"}, {})
    assert (settings.server.port, settings.server.host) == (1002, "::1")


def test_the_command_line_goes_before_the_environment(config: Path) -> None:
    config.write_text("[server]\nport = 1001")
    settings = load(config, {"CHATD_SERVER__PORT": "1002"}, {"server.port": 1003})
    assert settings.server.port == 1003


def test_an_option_that_is_none_was_not_given() -> None:
    assert load(None, {"CHATD_SERVER__PORT": "1002"}, {"server.port": None}).server.port == 1002


def test_a_path_may_come_from_the_command_line(tmp_path: Path) -> None:
    assert load(None, {}, {"storage.data_dir": tmp_path}).storage.data_dir == tmp_path


def test_other_variables_and_those_of_the_tests_are_ignored() -> None:
    environ = {"PATH": "/bin", "CHATD": "x", "CHATD_TEST_MONGOD": "/bin/mongod"}
    assert load(None, environ, {}) == Settings()


# -- what a value may be ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ['["https://a.org", "http://b:81"]', "https://A.org, http://b:81"])
def test_a_list_in_the_environment_is_json_or_has_commas(text: str) -> None:
    settings = load(None, {"CHATD_SERVER__ALLOWED_ORIGINS": text}, {})
    assert settings.server.allowed_origins == ("https://a.org", "http://b:81")


@pytest.mark.parametrize("text", ["", "[]"])
def test_an_empty_list_in_the_environment_is_empty(config: Path, text: str) -> None:
    config.write_text('[server]\nallowed_hosts = ["*"]')
    assert load(config, {"CHATD_SERVER__ALLOWED_HOSTS": text}, {}).server.allowed_hosts == ()


def test_values_arrive_in_their_types(config: Path) -> None:
    config.write_text(
        '[server]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\nallowed_hosts = ["Chat.Example.ORG"]\n'
        '[auth]\nsignup = "domains"\nsignup_domains = ["Corp.LOCAL", "xn--mnchen-3ya.de"]\n'
        '[storage]\ndata_dir = "/srv/chatd"\n[websocket]\nping_seconds = 0.5\n'
    )
    settings = load(config, {"CHATD_METRICS__TOKEN": "hush"}, {})
    assert settings.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.server.allowed_hosts == ("chat.example.org",)
    assert settings.auth.signup_domains == ("corp.local", "münchen.de")
    assert settings.storage.data_dir == Path("/srv/chatd")
    assert settings.websocket.ping_seconds == 0.5
    assert settings.metrics.token is not None
    assert settings.metrics.token.get_secret_value() == "hush"


def test_every_limit_may_be_0() -> None:
    limits = [key for key in fields() if key.startswith("limits.")]
    assert set(load(None, {}, dict.fromkeys(limits, 0)).limits.model_dump().values()) == {0}


def test_the_key_file_is_found_from_the_data_folder(tmp_path: Path) -> None:
    assert load(None, {}, {"storage.data_dir": "data"}).key_path == Path("data/keys.json")
    absolute = {"storage.data_dir": "data", "auth.key_file": tmp_path / "keys.json"}
    assert load(None, {}, absolute).key_path == tmp_path / "keys.json"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1


def test_no_secret_shows_in_a_text_form() -> None:
    given = {"storage.url": "sqlite:hush", "metrics.token": "hush"}
    given["uuids.source"] = "http://u:hush@generator/"
    assert "hush" not in repr(load(None, {}, given))


# -- errors name the source, the key and the remedy ------------------------------------------


def test_a_bad_value_in_the_file(config: Path) -> None:
    expected = f"{config}: server.port: 70000 should be less than or equal to 65535"
    assert line(config, "[server]\nport = 70000") == expected


def test_yes_and_no_and_tables_in_the_environment_are_json() -> None:
    environ = {
        "CHATD_CLUSTER__ALLOW_OPEN_NATS": "true",
        "CHATD_RETENTION__GROUPS": '{"news": 30, "lobby": 0.5}',
    }
    found = load(None, environ, {})
    assert found.cluster.allow_open_nats is True
    assert found.retention.groups == {"news": 30, "lobby": 0.5}


def test_a_bad_value_in_the_environment() -> None:
    expected = 'environment CHATD_SERVER__PORT: server.port: "abc" should be a valid integer'
    assert environment_line("CHATD_SERVER__PORT", "abc") == expected


def test_a_bad_value_on_the_command_line() -> None:
    expected = "command line: server.port: -1 should be greater than or equal to 0"
    assert lines(overrides={"server.port": -1}) == [expected]


def test_the_source_named_is_the_one_that_won(config: Path) -> None:
    config.write_text("[server]\nport = 1001")
    (only,) = lines(config, {"CHATD_SERVER__PORT": "-1"})
    assert only.startswith("environment CHATD_SERVER__PORT: server.port: -1 ")


@pytest.mark.parametrize("value", ['"8080"', "true", "8080.0", "[8080]", "{ a = 1 }"])
def test_a_number_in_the_file_is_a_number(config: Path, value: str) -> None:
    problem = line(config, f"[server]\nport = {value}")
    assert problem.startswith(f"{config}: server.port: ")
    assert problem.endswith("should be a valid integer")


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("server.host", "", "should have at least 1 character"),
        ("server.allowed_hosts", ["http://a.org"], "should be a host name"),
        ("server.allowed_hosts", ["a.org:80"], "should be a host name"),
        ("server.allowed_hosts", ["::1"], 'IPv6 as "[::1]"'),
        ("server.allowed_hosts", ["a b"], "should be a host name"),
        ("server.allowed_hosts", "a.org", "should be a valid array"),
        ("server.allowed_origins", ["a.org"], 'as in "https://chat.example.org"'),
        ("server.allowed_origins", ["https://a.org/"], 'as in "https://chat.example.org"'),
        ("server.allowed_origins", ["*"], 'as in "https://chat.example.org"'),
        ("server.trusted_proxies", ["proxy"], 'should be an IP network such as "10.0.0.0/8"'),
        ("server.trusted_proxies", ["10.0.0.1/8"], "10.0.0.1/8 has host bits set"),
        ("server.drain_seconds", -1, "should be greater than or equal to 0"),
        ("server.drain_seconds", float("nan"), "should be a finite number"),
        (
            "storage.url",
            "mysql://h/d",
            'should be "memory:", "sqlite:PATH" or "mongodb://HOST/DATABASE"',
        ),
        ("auth.signup", "maybe", "should be 'open', 'closed' or 'domains'"),
        ("auth.signup_domains", ["@corp.org"], "should be the part of an address after the @"),
        ("auth.token_seconds", 0, "should be greater than or equal to 1"),
        ("uuids.source", "ftp://h/", 'should be "local" or the http(s) URL'),
        ("uuids.source", "http://[h/", 'should be "local" or the http(s) URL'),
        ("storage.data_dir", "a\0b", "in which no NUL may stand"),
        ("auth.key_file", "a\0b", "in which no NUL may stand"),
        ("retention.days", 1e13, "should be less than or equal to 36500"),
        ("retention.groups", {"news": 36_501}, "should be less than or equal to 36500"),
        ("uuids.batch", 1, "should be greater than or equal to 2"),
        ("limits.replay", -1, "should be greater than or equal to 0"),
        ("websocket.ping_seconds", 0, "should be greater than 0"),
        ("logging.format", "xml", "should be 'auto', 'json' or 'text'"),
        ("logging.level", "INFO", "should be 'debug', 'info', 'warning' or 'error'"),
        ("metrics.token", "", "should not be empty: give a token, or leave the setting out"),
    ],
)
def test_every_check_says_what_would_be_right(key: str, value: object, remedy: str) -> None:
    (only,) = lines(overrides={key: value})
    assert only.startswith(f"command line: {key}: ")
    assert remedy in only


@pytest.mark.parametrize(
    "token",
    ["changeme", "CHANGE-ME", "change_this", "Secret", "a long random text", "<your token here>"],
)
def test_a_token_that_stands_in_examples_is_no_secret_and_is_not_shown(token: str) -> None:
    (only,) = lines(overrides={"metrics.token": token})
    assert only == (
        "command line: metrics.token: should be a secret, and this is what is tried first:"
        " give random text"
    )


@pytest.mark.parametrize("token", ["hush", "changeme-4fK9", "my prometheus token", "пароль"])
def test_any_other_text_is_a_token(token: str) -> None:
    given = load(None, {}, {"metrics.token": token}).metrics.token
    assert given is not None
    assert given.get_secret_value() == token


def test_sign_up_by_domain_needs_a_domain() -> None:
    assert environment_line("CHATD_AUTH__SIGNUP", "domains") == (
        "environment CHATD_AUTH__SIGNUP: auth.signup_domains: [] should name at least one domain"
        ' where auth.signup is "domains"'
    )


def test_the_low_water_mark_lies_below_the_batch(config: Path) -> None:
    expected = f"{config}: uuids.low_water: 250 should be less than uuids.batch, which is 250"
    assert line(config, "[uuids]\nbatch = 250") == expected
    assert load(None, {}, {"uuids.batch": 251}).uuids.low_water == 250


@pytest.mark.parametrize("key", ["storage.url", "uuids.source"])
def test_an_error_never_shows_a_value_that_may_hold_a_password(key: str) -> None:
    (only,) = lines(overrides={key: "ftp://user:hush@host/"})
    assert "hush" not in only


def test_a_misspelt_key_in_the_file_suggests_the_right_one(config: Path) -> None:
    expected = f"{config}: server.prot is not a setting; did you mean server.port?"
    assert line(config, "[server]\nprot = 80") == expected


def test_a_misspelt_section_in_the_file_suggests_the_right_one(config: Path) -> None:
    expected = f"{config}: servr.port is not a setting; did you mean server.port?"
    assert line(config, "[servr]\nport = 80") == expected


def test_a_key_outside_its_section_suggests_the_section(config: Path) -> None:
    expected = f"{config}: port is not a setting; did you mean server.port?"
    assert line(config, "port = 80") == expected


def test_a_section_that_is_no_table_says_so(config: Path) -> None:
    expected = f"{config}: server should be a table: put its keys under [server]"
    assert line(config, "server = 80") == expected


def test_a_key_like_no_other_lists_those_of_its_section(config: Path) -> None:
    there_are = "logging.format, logging.level, logging.sentry_dsn"
    expected = f"{config}: logging.xyz is not a setting; there are {there_are}"
    assert line(config, "[logging]\nxyz = 1") == expected


@pytest.mark.parametrize("name", ["CHATD_SERVR__PORT", "CHATD_SERVER_PORT", "CHATD_Server__Port"])
def test_an_unknown_variable_suggests_the_right_one(name: str) -> None:
    problem = environment_line(name, "80")
    assert problem.startswith(f"environment: {name} is not a setting; ")
    assert problem.endswith(" did you mean server.port (CHATD_SERVER__PORT)?")


def test_an_unknown_variable_like_no_other_lists_the_sections() -> None:
    problem = environment_line("CHATD_XYZ", "1")
    assert problem.startswith("environment: CHATD_XYZ is not a setting; there are server, sto")


def test_an_unknown_option_suggests_the_right_one() -> None:
    expected = "command line: serve.port is not a setting; did you mean server.port?"
    assert lines(overrides={"serve.port": 80}) == [expected]


def test_a_missing_file(config: Path) -> None:
    expected = f"{config}: No such file or directory: give --config a TOML file that can be read"
    assert lines(config) == [expected]


def test_a_folder_for_a_file(tmp_path: Path) -> None:
    expected = f"{tmp_path}: Is a directory: give --config a TOML file that can be read"
    assert lines(tmp_path) == [expected]


def test_broken_toml_names_the_line(config: Path) -> None:
    problem = line(config, "[server]\n\nport 80\n")
    assert problem.startswith(f"{config}: not valid TOML: ")
    assert "at line 3" in problem


def test_a_file_that_is_not_utf_8(config: Path) -> None:
    config.write_bytes(b'[auth]\nissuer = "\xe4"')
    assert lines(config) == [f"{config}: not UTF-8 text: save it as UTF-8"]


def test_a_variable_that_is_not_utf_8() -> None:
    expected = "environment CHATD_AUTH__ISSUER: auth.issuer should be UTF-8 text"
    assert environment_line("CHATD_AUTH__ISSUER", "\udce4") == expected


def test_everything_wrong_is_told_at_once(config: Path) -> None:
    config.write_text('[server]\nprot = 80\n[auth]\nsignup = "maybe"')
    problems = lines(config, {"CHATD_X": "1", "CHATD_LIMITS__REPLAY": "x"}, {"server.port": -1})
    assert len(problems) == 5
    for part in ("server.prot", "auth.signup", "CHATD_X ", "limits.replay", "command line"):
        assert sum(part in problem for problem in problems) == 1


# -- conf/chatd.toml -------------------------------------------------------------------------


def test_the_example_file_equals_the_defaults() -> None:
    assert load(EXAMPLE, {}, {}) == Settings()


def test_the_example_file_lists_every_setting() -> None:
    """Those without a default stand there commented out."""
    text = EXAMPLE.read_text()
    optional = [key for key, field in fields().items() if field.default is None]
    for key in optional:
        name = key.partition(".")[2]
        assert text.count(f"\n# {name} = ") == 1
        text = text.replace(f"\n# {name} = ", f"\n{name} = ")
    document = tomllib.loads(text)
    listed = [f"{section}.{key}" for section, keys in document.items() for key in keys]
    assert listed == list(fields())
    assert [key for key in optional if not key.startswith("cluster.nats_")] == [
        "logging.sentry_dsn",
        "metrics.token",
    ]


def test_the_example_file_explains_every_setting() -> None:
    rows = EXAMPLE.read_text().splitlines()
    names = {key.partition(".")[2] for key in fields()}
    explained = [
        above.startswith("# ")
        for above, row in itertools.pairwise(rows)
        if row.removeprefix("# ").partition(" = ")[0] in names
    ]
    assert explained == [True] * len(fields())
