"""Every setting of chatd, and the only reader of configuration files and the environment.

Defaults < TOML file < environment ``CHATD_SECTION__KEY`` < command line; `load` puts them
together. ``conf/chatd.toml`` lists every setting with its default and what it is for.

This is `tomllib`, a mapping and one pydantic validation rather than pydantic-settings, whose
sources don't remember where a value came from: every error here names the file, the variable
or the command line. Values are validated as JSON, strictly: its arrays become tuples and its
text paths and networks, yet neither ``"8080"`` nor ``true`` passes for a number.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from chatd.addresses import normalize_email, normalize_group

PREFIX: Final = "CHATD_"
TEST_PREFIX: Final = "CHATD_TEST_"
"""Variables of the test suite, never settings."""

_HOST = re.compile(r"\*|[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_WELL_KNOWN_SECRETS: Final = frozenset(
    re.findall(
        r"\w+",
        "admin alongrandomtext changeit changeme changethis chatd default example foobar "
        "letmein metrics metricstoken mysecret mytoken none null password prometheus "
        "replaceme secret secretkey secrettoken test token topsecret yoursecret "
        "yoursecrethere yourtoken yourtokenhere",
    )
)
"""The letters of what stands in examples and is forgotten there, as in conf/chatd.toml."""

_DEFAULT: Final = "default"
_SUBJECT = re.compile(r"^[A-Z]\w+ should")
"""How pydantic begins: "Input should be …"; ours names the value instead."""


class SettingsError(Exception):
    """Settings that can't be used: one line per error, with its source, key and remedy."""


def _allowed_host(text: str) -> str:
    host = text.lower()
    if not _HOST.fullmatch(host):
        raise ValueError(
            'should be a host name or address without scheme or port (IPv6 as "[::1]"), or "*"'
        )
    return host


def _allowed_origin(text: str) -> str:
    origin = text.lower()
    if not re.fullmatch(r"https?://[^/?#@\s*]+", origin):
        raise ValueError('should be scheme and host, as in "https://chat.example.org"')
    return origin


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f'should be an IP network such as "10.0.0.0/8" ({error})') from None


def _storage_url(text: str) -> str:
    if not re.fullmatch(r"memory:|sqlite:.+|mongodb(\+srv)?://.+", text):
        raise ValueError('should be "memory:", "sqlite:PATH" or "mongodb://HOST/DATABASE"')
    return text


def _path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("should be a path, in which no NUL may stand")
    return path


def _nats_url(text: str | None) -> str | None:
    for one in (text or "nats://localhost").split(","):
        if not re.fullmatch(r"(nats|tls)://[^/?#@\s]+", one.strip()):
            raise ValueError(
                'should be "nats://HOST:PORT" or "tls://HOST:PORT", several with commas between,'
                " without user or password: these have settings of their own"
            )
    return text


def _uuid_source(text: str) -> str:
    if text != "local" and not _is_http_url(text):
        raise ValueError('should be "local" or the http(s) URL of a generator')
    return text


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _mail_domain(text: str) -> str:
    try:
        return normalize_email(f"someone@{text}").partition("@")[2]
    except ValueError:
        raise ValueError('should be the part of an address after the @, as in "corp.org"') from None


def _secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text:
        raise ValueError("should not be empty: give a token, or leave the setting out")
    if re.sub("[^a-z0-9]", "", text.lower()) in _WELL_KNOWN_SECRETS:
        raise ValueError("should be a secret, and this is what is tried first: give random text")
    return secret


class _Section(BaseModel):
    # A field with repr=False may hold a password: errors don't show its value either.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(min_length=1)]

Secret = Annotated[Annotated[SecretStr, AfterValidator(_secret)] | None, Field(repr=False)]

File = Annotated[Path, AfterValidator(_path)]

Limit = Annotated[int, Field(ge=0)]
"""0 means none."""

Seconds = Annotated[float, Field(gt=0)]

Days = Annotated[float, Field(ge=0, le=36_500)]
"""For how long; 0 is for ever."""


class Server(_Section):
    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    allowed_hosts: tuple[Annotated[str, AfterValidator(_allowed_host)], ...] = ()
    allowed_origins: tuple[Annotated[str, AfterValidator(_allowed_origin)], ...] = ()
    trusted_proxies: tuple[Annotated[IPv4Network | IPv6Network, PlainValidator(_network)], ...] = ()
    drain_seconds: Annotated[float, Field(ge=0)] = 10


class Storage(_Section):
    url: Annotated[str, AfterValidator(_storage_url), Field(repr=False)] = "sqlite:chatd.db"
    data_dir: File = Path("var")


class Auth(_Section):
    signup: Literal["open", "closed", "domains"] = "open"
    signup_domains: Annotated[
        tuple[Annotated[str, AfterValidator(_mail_domain)], ...], Field(validate_default=True)
    ] = ()
    token_seconds: Annotated[int, Field(ge=1)] = 43_200
    key_file: File = Path("keys.json")
    issuer: Text = "chatd"

    @field_validator("signup_domains")
    @classmethod
    def _domains_where_needed(
        cls, domains: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if info.data.get("signup") == "domains" and not domains:
            raise ValueError('should name at least one domain where auth.signup is "domains"')
        return domains


class Uuids(_Section):
    source: Annotated[str, AfterValidator(_uuid_source), Field(repr=False)] = "local"
    batch: Annotated[int, Field(ge=2, le=100_000)] = 1000
    low_water: Annotated[int, Field(ge=1, validate_default=True)] = 250

    @field_validator("low_water")
    @classmethod
    def _below_batch(cls, low_water: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch")
        if batch is not None and low_water >= batch:
            raise ValueError(f"should be less than uuids.batch, which is {batch}")
        return low_water


class Limits(_Section):
    sign_in_per_minute: Limit = 300
    sign_in_failures_per_minute: Limit = 10
    send_per_second: Limit = 200
    send_burst: Limit = 5000
    call_per_second: Limit = 1000
    call_burst: Limit = 20_000
    frame_bytes: Limit = 32_768
    text_chars: Limit = 4000
    body_bytes: Limit = 65_536
    connections_per_user: Limit = 50
    connections_per_address: Limit = 1000
    outbox_bytes: Limit = 1_048_576
    replay: Limit = 500
    presence: Limit = 1000


class WebSocket(_Section):
    ping_seconds: Seconds = 20
    pong_seconds: Seconds = 20
    receipt_interval_ms: Annotated[int, Field(ge=0)] = 250


class Logging(_Section):
    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    sentry_dsn: Secret = None


class Metrics(_Section):
    token: Secret = None


class Retention(_Section):
    days: Days = 0
    groups: dict[Annotated[str, AfterValidator(normalize_group)], Days] = Field(
        default_factory=dict
    )


class Cluster(_Section):
    nats_url: Annotated[str | None, AfterValidator(_nats_url), Field(repr=False)] = None
    nats_user: str | None = None
    nats_password: Secret = None
    nats_token: Secret = None
    nats_nkey_file: File | None = None
    nats_ca_file: File | None = None
    nats_cert_file: File | None = None
    nats_cert_key_file: File | None = None
    allow_open_nats: bool = False


class Settings(_Section):
    """All settings, by section; immutable."""

    server: Server = Server()
    storage: Storage = Storage()
    auth: Auth = Auth()
    uuids: Uuids = Uuids()
    limits: Limits = Limits()
    websocket: WebSocket = WebSocket()
    retention: Retention = Retention()
    cluster: Cluster = Cluster()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()

    @property
    def key_path(self) -> Path:
        """The key file, found from the data folder where its path is not absolute."""
        return self.storage.data_dir / self.auth.key_file


def fields() -> dict[str, FieldInfo]:
    """Every setting, by dotted key."""
    return {
        f"{section}.{key}": field
        for section, of in Settings.model_fields.items()
        if isinstance(of.annotation, type) and issubclass(of.annotation, _Section)
        for key, field in of.annotation.model_fields.items()
    }


class _Given(NamedTuple):
    source: str
    key: str
    value: object

    def problem(self, text: str) -> str:
        return f"{self.source}: {self.key} {text}"


class Origins:
    """Where settings come from: they can be read again, and each knows its source."""

    def __init__(
        self,
        config: Path | None,
        environ: Mapping[str, str],
        overrides: Mapping[str, object],
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        """``overrides`` are the command line's, by dotted key ("server.port"); one that is None
        was not given. ``defaults`` are those that depend on where the program runs."""
        self._config = config
        self._environ = environ
        self._overrides = overrides
        self._defaults = defaults or {}

    def load(self) -> Settings:
        """Put the settings together; `SettingsError` lists all that is wrong with them."""
        return _put_together(self._given())

    def sources(self) -> dict[str, str]:
        """The source of each setting, by dotted key: "default", a file, a variable, "command
        line"."""
        given = {one.key: one.source for one in self._given()}
        return {key: given.get(key, _DEFAULT) for key in fields()}

    def _given(self) -> list[_Given]:
        overrides = self._overrides.items()
        return [
            *(_Given(_DEFAULT, key, value) for key, value in self._defaults.items()),
            *(_from_file(self._config) if self._config is not None else ()),
            *_from_environment(self._environ),
            *(_Given("command line", key, value) for key, value in overrides if value is not None),
        ]


def load(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """The settings of these `Origins`."""
    return Origins(config, environ, overrides).load()


def _put_together(given: Sequence[_Given]) -> Settings:
    keys = fields()
    problems = [_unknown(one) for one in given if one.key not in keys]
    problems += [one.problem("should be UTF-8 text") for one in given if not _is_unicode(one)]
    known = {one.key: one for one in given if one.key in keys and _is_unicode(one)}
    try:
        settings = _validate(known)
        if not problems:
            return settings
    except ValidationError as error:
        problems += [_describe(details, known) for details in error.errors()]
    raise SettingsError("\n".join(problems))


def _from_file(path: Path) -> Iterator[_Given]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}: give --config a TOML file that can be read"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    for section, values in document.items():
        if isinstance(values, dict):
            yield from (_Given(str(path), f"{section}.{k}", v) for k, v in values.items())
        else:
            yield _Given(str(path), section, values)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    settings = fields()
    names = {_variable(key): key for key in settings}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX):
            continue
        if (key := names.get(name)) is not None:
            value = _from_text(text, settings[key].annotation)
            yield _Given(f"environment {name}", key, value)
        else:
            yield _Given("environment", name, text)


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _from_text(text: str, annotation: Any) -> object:
    """The value that a variable's text stands for; the text itself where it stands for none."""
    is_list = get_origin(annotation) is tuple
    if is_list and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if is_list or get_origin(annotation) is dict or annotation in (int, float, bool):
        try:
            value: object = json.loads(text)
        except ValueError:
            return text
        return value
    return text


def _is_unicode(one: _Given) -> bool:
    # Variables and arguments that are not UTF-8 reach Python as lone surrogates (PEP 383).
    return not re.search("[\ud800-\udfff]", str(one.value))


def _validate(known: Mapping[str, _Given]) -> Settings:
    document: dict[str, dict[str, object]] = {}
    for key, one in known.items():
        section, name = key.split(".")
        document.setdefault(section, {})[name] = one.value
    return Settings.model_validate_json(json.dumps(document, default=str))


def _describe(details: ErrorDetails, known: Mapping[str, _Given]) -> str:
    """The line for one of pydantic's errors. Where a default is wrong, a neighbour made it so."""
    section, name = (*map(str, details["loc"]), "", "")[:2]
    key = f"{section}.{name}"
    neighbours = (one for one in known.values() if one.key.startswith(f"{section}."))
    source = (known.get(key) or next(neighbours)).source
    cause = str(details.get("ctx", {}).get("error", details["msg"]))
    shown = f" {json.dumps(details['input'], default=str)}" if fields()[key].repr else ""
    return f"{source}: {key}:{shown} {_SUBJECT.sub('should', cause)}"


def _unknown(one: _Given) -> str:
    """The line for what is no setting, with the nearest that is."""
    if one.key in Settings.model_fields:
        return one.problem(f"should be a table: put its keys under [{one.key}]")
    typed = one.key.removeprefix(PREFIX).lower().replace("__", ".")
    section, _, name = typed.rpartition(".")
    siblings = [key for key in fields() if key.startswith(f"{section}.")]
    if (alike := _nearest(typed, name, siblings)) is None:
        choice = ", ".join(siblings or Settings.model_fields)
        return one.problem(f"is not a setting; there are {choice}")
    hint = f" ({_variable(alike)})" if one.source == "environment" else ""
    return one.problem(f"is not a setting; did you mean {alike}{hint}?")


def _nearest(typed: str, name: str, siblings: list[str]) -> str | None:
    """A key of the same section with a name alike, else one alike as a whole, else a namesake."""
    keys = {key.partition(".")[2]: key for key in siblings} or {key: key for key in fields()}
    close = difflib.get_close_matches(name if siblings else typed, keys, 1, cutoff=0.7)
    namesakes = [key for key in fields() if key.endswith(f".{name}")]
    return next(iter([*(keys[word] for word in close), *namesakes]), None)
