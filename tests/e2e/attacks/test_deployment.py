"""Attacks that a careless set-up lets in: what is refused at start, warned of, or never believed.

And what chatd needs of the machine: no rights, no home, and nothing to write to but its data
folder.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest

from tests.chat import PASSWORD, PATIENCE
from tests.e2e.attacks.well import assert_well, event_of, events, serving
from tests.e2e.conftest import MakeServer
from tests.e2e.server import START_SECONDS, Server

TOKEN = "q8f3mZt1RkW7yLx0"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}


def chatd(
    folder: Path, *arguments: str, python: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it with a data folder that isn't there yet, to the end."""
    return subprocess.run(
        [
            *(sys.executable, *python, "-m", "chatd.cli"),
            *("--port", "0", "--data-dir", str(folder), *arguments),
        ],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


# -- at start ----------------------------------------------------------------------------------

DANGEROUS = (
    (
        ["--host", "0.0.0.0"],
        {"CHATD_SERVER__ALLOWED_HOSTS": "*", "CHATD_METRICS__TOKEN": "q8f3mZt1"},
        {"server.no_tls", "server.any_host_allowed", "metrics.token_short"},
    ),
    (
        ["--host", "0.0.0.0"],
        {"CHATD_SERVER__TRUSTED_PROXIES": "0.0.0.0/0"},
        {"server.everybody_is_trusted", "server.no_host_allowed"},
    ),
)
SOUND: tuple[tuple[list[str], dict[str, str]], ...] = (
    ([], {}),
    (["--host", "localhost"], {"CHATD_METRICS__TOKEN": TOKEN}),
    (
        ["--host", "0.0.0.0"],
        {
            "CHATD_SERVER__TRUSTED_PROXIES": "10.0.0.0/8",
            "CHATD_SERVER__ALLOWED_HOSTS": "chat.example.org,0.0.0.0",
        },
    ),
)


@pytest.mark.parametrize(("arguments", "environment", "warned"), DANGEROUS)
def test_a_dangerous_set_up_is_warned_of_with_its_remedy(
    make_server: MakeServer, arguments: list[str], environment: dict[str, str], warned: set[str]
) -> None:
    """Seen to fail with ``dangers`` not asked in app.py."""
    server = make_server(*arguments, environment=environment)
    server.start()
    assert_well(server)
    warnings = [one for one in events(server) if one["level"] == "warning"]
    assert {one["event"] for one in warnings} == warned
    assert all(one["remedy"] for one in warnings)
    assert TOKEN[:8] not in server.log.read_text()


@pytest.mark.parametrize(("arguments", "environment"), SOUND)
def test_a_sound_set_up_is_not_nagged(
    make_server: MakeServer, arguments: list[str], environment: dict[str, str]
) -> None:
    """Seen to fail with ``localhost`` taken for another machine, in deployment.py."""
    server = make_server(*arguments, environment=environment)
    server.start()
    assert_well(server)
    assert {one["level"] for one in events(server)} == {"info"}


def test_who_is_being_debugged_serves_this_machine_only(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """Seen to fail with ``refuse_debugging`` not called in building.py."""
    folder, public = tmp_path / "public", ["--host", "0.0.0.0"]
    for done in (
        chatd(folder, *public, PYTHONASYNCIODEBUG="1"),
        chatd(folder, *public, PYTHONDEVMODE="1", PYTHONWARNINGS="ignore"),
        chatd(folder, "--host", "::", python=["-X", "dev", "-W", "ignore"]),
    ):
        assert done.returncode == 1, done
        assert done.stdout == ""
        assert re.search(r"^chatd: chatd does not serve on (0\.0\.0\.0|::) in ", done.stderr, re.M)
        assert "Traceback" not in done.stderr
        assert not folder.exists()
    server = make_server(environment={"PYTHONASYNCIODEBUG": "1"})
    server.start()
    assert_well(server)


@pytest.mark.parametrize("token", ["changeme", "Your-Token-Here", "", "prometheus"])
def test_a_metrics_token_that_everybody_knows_is_refused(tmp_path: Path, token: str) -> None:
    """Seen to fail with ``text`` for the letters of it, in settings.py's ``_secret``."""
    done = chatd(tmp_path / "data", CHATD_METRICS__TOKEN=token)
    assert done.returncode == 2
    assert done.stderr.startswith("chatd: environment CHATD_METRICS__TOKEN: metrics.token: should ")
    assert not token or token not in done.stderr
    assert not (tmp_path / "data").exists()


# -- what proxies say --------------------------------------------------------------------------

PROXY, STRANGER = "127.0.0.2", "127.0.0.1"


class Heard(NamedTuple):
    """What was answered."""

    status: int
    headers: http.client.HTTPMessage
    body: str


def ask(server: Server, path: str, *headers: tuple[str, str], source: str = STRANGER) -> Heard:
    """A request from one of this machine's own addresses; a header may stand there twice."""
    address = urlsplit(server.url)
    assert address.port is not None
    connection = http.client.HTTPConnection(
        "127.0.0.1", address.port, timeout=PATIENCE, source_address=(source, 0)
    )
    with closing(connection):
        connection.putrequest("GET", path, skip_host=any(name == "Host" for name, _ in headers))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return Heard(answer.status, answer.headers, answer.read().decode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Behind a proxy at 127.0.0.2, and those of 10.0.0.0/8 before that."""
    proxies = f"{PROXY}, 10.0.0.0/8, 2001:db8::/32"
    with serving(
        Server(
            tmp_path_factory.mktemp("proxied"),
            environment={"CHATD_SERVER__TRUSTED_PROXIES": proxies},
        )
    ) as server:
        yield server


def address_of(server: Server, *forwarded: str, source: str) -> str:
    """From where the server thinks that a request has come."""
    headers = [("X-Forwarded-For", one) for one in forwarded]
    answer = ask(server, "/nowhere", *headers, source=source)
    return str(event_of(server, answer.headers["X-Request-ID"])["address"])


def test_a_proxy_that_is_not_listed_is_the_client_whatever_it_says(server: Server) -> None:
    """Seen to fail with every hop believed, in networks.py."""
    for said in ("198.51.100.7", "127.0.0.1", "10.0.0.1", "10.0.0.1, 198.51.100.7", PROXY, "x"):
        assert address_of(server, said, source=STRANGER) == STRANGER


def test_of_what_listed_proxies_say_the_last_that_is_none_of_them_counts(server: Server) -> None:
    """Whatever the client itself has written before it. Seen to fail with ``hops.pop(0)`` in
    networks.py."""
    for said, client in (
        (["198.51.100.7"], "198.51.100.7"),
        (["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        (["6.6.6.6, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        (["6.6.6.6, 198.51.100.7, 10.1.2.3, 10.9.9.9"], "198.51.100.7"),
        (["6.6.6.6", "198.51.100.7", "10.1.2.3"], "198.51.100.7"),
        (["10.0.0.1, 10.0.0.2, 198.51.100.7"], "198.51.100.7"),
        (["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
        # Nobody but proxies: the first of them.
        (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (["  198.51.100.7  "], "198.51.100.7"),
        (["2001:DB8:1::1, 2001:db9:0:0:0:0:0:7, 2001:db8::2"], "2001:db9::7"),
        (["::ffff:198.51.100.7, ::ffff:10.0.0.9"], "198.51.100.7"),
        (["198.51.100.7\t"], "198.51.100.7"),
        # Some write the port as well.
        (["6.6.6.6, 198.51.100.7:4711, 10.0.0.1:80"], "198.51.100.7"),
        (["[2001:db9::7]:4711, [2001:db8::2]:80"], "2001:db9::7"),
        ([",".join(["10.0.0.1"] * 1000)], "10.0.0.1"),
        ([", ".join(["198.51.100.7"] * 500)], "198.51.100.7"),
        ([""], PROXY),
        # Who has no address has none, whatever stands before that or is said instead.
        (["198.51.100.7, nonsense"], "unknown"),
        (["198.51.100.7, nonsense, 10.0.0.1"], "unknown"),
        (["198.51.100.7,"], "unknown"),
        ([","], "unknown"),
        (["_hidden"], "unknown"),
        (["1.2.3"], "unknown"),
        (["0x7f.1"], "unknown"),
        (["127.1"], "unknown"),
        (["198.51.100.007"], "unknown"),
        (["198.51.100.7 10.0.0.1"], "unknown"),
        (["::ffff:198.51.100.7:4711"], "unknown"),
        (["<script>"], "unknown"),
        (["1" * 4000], "unknown"),
    ):
        assert address_of(server, *said, source=PROXY) == client, said


def test_no_other_header_says_where_a_request_is_from_or_goes_to(server: Server) -> None:
    """Seen to fail with ``xheaders=True`` for Tornado's server in listener.py."""
    for name, value in (
        ("X-Real-IP", "198.51.100.7"),
        ("Forwarded", "for=198.51.100.7;host=evil.example;proto=https"),
        ("X-Client-IP", "198.51.100.7"),
        ("True-Client-IP", "198.51.100.7"),
        ("CF-Connecting-IP", "198.51.100.7"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Original-URL", "/metrics"),
        ("X-Rewrite-URL", "/metrics"),
    ):
        for source in (PROXY, STRANGER):
            answer = ask(server, "/nowhere", (name, value), source=source)
            assert answer.status == 404
            logged = event_of(server, answer.headers["X-Request-ID"])
            assert logged["address"] == source, name
    for source in (PROXY, STRANGER):
        host = ("Host", "evil.example")
        good = ("X-Forwarded-Host", urlsplit(server.url).netloc)
        assert ask(server, "/nowhere", host, good, source=source).status == 421


# -- metrics -----------------------------------------------------------------------------------


def test_metrics_without_a_token_are_for_this_machine_alone(server: Server) -> None:
    """Not for those whom a proxy on this machine lets in, be it listed or not.

    Seen to fail with no look at the headers, in health.py.
    """
    assert ask(server, "/metrics").status == 200
    for source, name, value in (
        (STRANGER, "X-Forwarded-For", "198.51.100.7"),
        (STRANGER, "X-Forwarded-For", "127.0.0.1"),
        (STRANGER, "x-forwarded-for", ""),
        (STRANGER, "X-Real-IP", "198.51.100.7"),
        (STRANGER, "Via", "1.1 proxy"),
        (STRANGER, "Forwarded", "for=198.51.100.7"),
        (PROXY, "X-Forwarded-For", "198.51.100.7"),
        (PROXY, "X-Forwarded-For", ""),
        (PROXY, "X-Real-IP", "198.51.100.7"),
        (PROXY, "Via", "1.1 proxy"),
        (PROXY, "Forwarded", "for=198.51.100.7"),
        (PROXY, "X-Forwarded-For", "127.0.0.1, 198.51.100.7"),
        (PROXY, "X-Forwarded-For", "127.0.0.1, 198.51.100.7, 10.0.0.1"),
    ):
        refused = ask(server, "/metrics", (name, value), source=source)
        assert refused.status == 403, (name, value)
        assert "chatd_" not in refused.body
    for path in (
        "/metrics/",
        "//metrics",
        "/metrics;x",
        "/%6detrics",
        "/v1/../metrics",
        "/METRICS",
    ):
        assert "chatd_" not in ask(server, path, ("Via", "1.1 proxy")).body


def test_metrics_with_a_token_are_for_who_has_it(make_server: MakeServer) -> None:
    """Seen to fail with ``startswith`` for the comparison, in health.py."""
    server = make_server(environment={"CHATD_METRICS__TOKEN": TOKEN})
    server.start()
    user_token = sign_in(server.url)
    for wrong in (
        [],
        [("Authorization", "Bearer ")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN.lower()}")],
        [("Authorization", f"Bearer {user_token}")],
        [("Authorization", "Bearer \xe9\xff")],
        [("Cookie", f"token={TOKEN}")],
    ):
        refused = ask(server, "/metrics", *wrong)
        assert refused.status == 401, wrong
        assert "chatd_" not in refused.body
        assert TOKEN not in refused.body
    two = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]
    assert ask(server, "/metrics", *two).status == 400
    assert ask(server, f"/metrics?token={TOKEN}").status in (401, 422)
    proxied = ("X-Forwarded-For", "198.51.100.7")
    for headers in ([], [proxied]):
        right = ask(server, "/metrics", ("Authorization", f"Bearer {TOKEN}"), *headers)
        assert right.status == 200
        assert "chatd_connections" in right.body
        assert user_token not in right.body
    assert_well(server)
    assert TOKEN not in server.log.read_text()


def sign_in(url: str) -> str:
    body = json.dumps({"email": "ann@example.org", "password": PASSWORD}).encode()
    request = Request(f"{url}/v1/auth/sign-in", body, {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
        return str(json.loads(answer.read())["token"])


# -- what it needs -----------------------------------------------------------------------------

NOBODY = 65_534
WRITING = (
    "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,unlink,unlinkat,rmdir,truncate,chmod,fchmodat,chown,fchownat,lchown"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may come to, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="chatd-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def serve_and_sign_in(command: Sequence[str], environment: dict[str, str]) -> str:
    """Start it, use it, end it as an administrator would; what it wrote to standard error."""
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "chatd.cli", "--port", "0"],
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.startswith("chatd: listening on "):
            sign_in(line.split()[-1])
            sign_in(line.split()[-1])
        # Whoever traces it is its parent.
        for one in psutil.Process(process.pid).children() or [process]:
            one.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=START_SECONDS)
    assert line.startswith("chatd: listening on "), told
    assert process.returncode == 0, told
    return told


def as_nobody() -> list[str]:
    """Start a command as somebody without a right to anything; only root can, others are.

    Nobody may not even read what lies in root's home, as the interpreter here and there does.
    """
    if os.geteuid() != 0:
        return []
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*user, "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]


def test_it_runs_as_anybody_anywhere_and_without_a_home(folder: Path) -> None:
    """Seen to fail with a file of the working directory opened for writing, in building.py."""
    data, command = folder / "data", as_nobody()
    data.mkdir(mode=0o700)
    if command:
        os.chown(data, NOBODY, NOBODY)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "CHATD_STORAGE__DATA_DIR": str(data),
    }
    assert "Traceback" not in serve_and_sign_in(command, environment)
    made = list(data.iterdir())
    assert {file.name for file in made} >= {"keys.json", "chatd.db"}
    assert {file.stat().st_uid for file in made} == {data.stat().st_uid}
    assert {file.stat().st_mode & 0o077 for file in made} == {0}


@pytest.mark.strace
def test_it_writes_to_its_data_folder_only(folder: Path) -> None:
    """Seen to fail with a file in /tmp opened for writing, in building.py."""
    data, calls = folder / "data", folder / "calls"
    environment = {
        **ENVIRONMENT,
        # An installed chatd has been compiled before.
        "PYTHONDONTWRITEBYTECODE": "1",
        "CHATD_STORAGE__DATA_DIR": str(data),
    }
    strace = ["strace", "--follow-forks", "--seccomp-bpf", f"--output={calls}"]
    serve_and_sign_in([*strace, f"--trace={WRITING}", "--string-limit=4096"], environment)
    written = list(writes(calls.read_text()))
    assert any(str(data / "keys.json") in line for line in written)
    outside = [
        line
        for line in written
        if any(not path.startswith(f"{data}") for path in re.findall('"([^"]*)"', line))
    ]
    assert [line for line in outside if '"/dev/null"' not in line] == []


def writes(calls: str) -> Iterator[str]:
    """Those of strace's lines that have made, opened for writing or taken away something."""
    for line in calls.splitlines():
        if " = -1 " in line or not re.match(r"\d+ +\w+\(", line):
            continue
        if re.search(r" open(at2?)?\(", line) and not re.search("O_WRONLY|O_RDWR|O_CREAT", line):
            continue
        yield line
