"""The image's Dockerfile and the compose files around it, as far as they can be read."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from chatd.deployment import refuse_open_cluster
from chatd.keys import KeyRing
from chatd.settings import Settings, load
from tests.deploy.schemas import assert_valid
from tests.e2e.server import Server
from tests.mongod import free_port
from tests.nats import NatsServer

ROOT: Final = Path(__file__).parents[2]
DOCKER: Final = ROOT / "conf" / "docker"
DOCKERFILE: Final = DOCKER / "Dockerfile"
IGNORED: Final = DOCKER / "Dockerfile.dockerignore"
ONE: Final = DOCKER / "compose.yml"
CLUSTER: Final = DOCKER / "compose.cluster.yml"
NATS: Final = DOCKER / "nats.conf"
GIVEN: Final = {
    "METRICS_TOKEN": "0123456789abcdef0123",
    "GRAFANA_PASSWORD": "a good one",
    "NATS_PASSWORD": "123456789abcdef0123",
}
"""What a user puts into .env."""

Json = dict[str, Any]


# -- the Dockerfile ----------------------------------------------------------------------------


def steps() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions, each in one line, with their arguments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line:
            instruction, _, arguments = line.partition(" ")
            yield instruction, arguments.strip()


def of(instruction: str) -> list[str]:
    return [arguments for name, arguments in steps() if name == instruction]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_takes_what_it_is_built_from_and_nothing_else() -> None:
    taken = {
        name
        for arguments in of("COPY")
        if "--from" not in arguments
        for name in arguments.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in taken)
    everything, *rest = [line for line in IGNORED.read_text().splitlines() if line[:1] != "#"]
    assert everything == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == taken


def test_the_image_has_what_a_server_among_others_needs() -> None:
    """chatd alone does without the extra, and refuses to start with a cluster.nats_url then."""
    (install,) = [command for command in of("RUN") if "pip install" in command]
    assert install.endswith('".[cluster]"')


def test_the_image_runs_as_nobody_special() -> None:
    stage = [name for name, _ in steps()]
    last = len(stage) - 1 - stage[::-1].index("FROM")
    (user,) = [arguments for name, arguments in list(steps())[last:] if name == "USER"]
    numbers = re.fullmatch(r"(\d+):(\d+)", user)
    assert numbers
    assert min(map(int, numbers.groups())) > 0
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_s_settings_are_chatd_s() -> None:
    variables = dict(re.findall(r"(CHATD_\w+)=(\S+)", of("ENV")[0]))
    settings = load(None, variables, {})
    assert str(settings.storage.data_dir) in of("VOLUME")
    assert of("EXPOSE") == [str(settings.server.port)]


def test_the_healthcheck_tells_a_server_that_lives_from_one_that_does_not(tmp_path: Path) -> None:
    """Seen to fail with one that takes 421, which chatd answers here, for a bad sign."""
    (options_and_command,) = of("HEALTHCHECK")
    program, *arguments = json.loads(options_and_command.partition("CMD ")[2])
    assert program == "python3"
    hosts = {"CHATD_SERVER__ALLOWED_HOSTS": "chat.example.org"}
    with closing(Server(tmp_path, environment=hosts)) as server:
        (port,) = re.findall(r":(\d+)", server.start())
        command = [sys.executable, *(one.replace("8080", port) for one in arguments)]
        alive = subprocess.run(command, capture_output=True, check=False).returncode
    dead = subprocess.run(command, capture_output=True, check=False).returncode
    assert (alive, dead) == (0, 1)


# -- the compose files -------------------------------------------------------------------------


class Compose:
    """A compose file as Compose reads it, with the variables of .env."""

    def __init__(self, path: Path) -> None:
        read = yaml.safe_load(interpolated(path.read_text()))
        self.path = path
        self.networks: Json = read["networks"]
        self.volumes: Json = read["volumes"]
        self.secrets: Json = read["secrets"]
        self.services: dict[str, Json] = {
            name: extended(path, service) for name, service in read["services"].items()
        }

    @property
    def chatd(self) -> dict[str, Json]:
        """The services that are a chatd."""
        return {name: one for name, one in self.services.items() if name.startswith("chatd")}

    def settings(self) -> Settings:
        """Those that every chatd has."""
        first, *others = [load(None, one["environment"], {}) for one in self.chatd.values()]
        assert all(one == first for one in others)
        return first

    def mounted(self, service: str, target: str) -> Path:
        """The file that this service has there."""
        (found,) = [
            source
            for source, where in map(source_and_target, self.services[service]["volumes"])
            if where == target
        ]
        return DOCKER / found


def extended(path: Path, service: Json) -> Json:
    """The service with what it takes from another file: all that it does not say itself."""
    service = {"volumes": [], **service}
    if "extends" not in service:
        return service
    where = service["extends"]
    base = Compose(path.with_name(where["file"])).services[where["service"]]
    merged = {**base, **service}
    volumes = [*base["volumes"], *service["volumes"]]
    merged["volumes"] = list({source_and_target(one)[1]: one for one in volumes}.values())
    return merged


def source_and_target(volume: str) -> tuple[str, str]:
    source, target, *_ = volume.split(":")
    return source, target


def interpolated(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if kind == ":?":
            return GIVEN[name]
        return GIVEN.get(name, rest)

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)


@pytest.fixture(scope="module", params=[ONE, CLUSTER], ids=["one", "cluster"])
def compose(request: pytest.FixtureRequest) -> Compose:
    return Compose(request.param)


@pytest.fixture(scope="module")
def cluster() -> Compose:
    return Compose(CLUSTER)


def test_it_is_a_compose_file(compose: Compose) -> None:
    assert_valid(compose.path, "compose-spec")
    services = compose.services.values()
    networks = {name for service in services for name in service["networks"]}
    sources = {
        source_and_target(volume)[0] for service in services for volume in service["volumes"]
    }
    assert networks == compose.networks.keys()
    assert {one for one in sources if not one.startswith(".")} == compose.volumes.keys()
    secrets = {
        secret if isinstance(secret, str) else secret["source"]
        for service in services
        for secret in service.get("secrets", ())
    }
    assert secrets == compose.secrets.keys()
    awaited = {name for service in services for name in service.get("depends_on", ())}
    assert awaited <= compose.services.keys()


def test_it_gives_chatd_settings_that_it_takes(compose: Compose) -> None:
    settings = compose.settings()
    (edge,) = compose.networks["edge"]["ipam"]["config"]
    assert settings.server.trusted_proxies == (ip_network(edge["subnet"]),)
    for chatd in compose.chatd.values():
        assert float(chatd["stop_grace_period"].removesuffix("s")) > settings.server.drain_seconds
    members = re.findall(r"mongo\d", settings.storage.url)
    assert members == [name for name in compose.services if name.startswith("mongo")]
    check = compose.services["mongo1"]["healthcheck"]["test"][-1]
    assert all(f'host: "{name}"' in check for name in members)


def test_prometheus_asks_every_server_and_is_answered(compose: Compose) -> None:
    settings = compose.settings()
    config = compose.mounted("prometheus", "/etc/prometheus/prometheus.yml")
    (targets,) = yaml.safe_load(config.read_text())["scrape_configs"][0]["static_configs"]
    asked = {f"{name}:{settings.server.port}" for name in compose.chatd}
    assert set(targets["targets"]) == asked
    assert compose.chatd.keys() <= set(settings.server.allowed_hosts)


def test_it_sets_what_the_caddyfile_asks_for(compose: Compose) -> None:
    caddyfile = compose.mounted("caddy", "/etc/caddy/Caddyfile")
    known = re.findall(r"\{\$(\w+)", caddyfile.read_text())
    environment = compose.services["caddy"]["environment"]
    assert set(environment) <= set(known)
    port = compose.settings().server.port
    assert environment["CHATD_UPSTREAM"].split() == [f"{name}:{port}" for name in compose.chatd]


def test_what_it_mounts_is_there(compose: Compose) -> None:
    for service in compose.services.values():
        for volume in service["volumes"]:
            source = source_and_target(volume)[0]
            if source.startswith("."):
                assert (DOCKER / source).exists()
                assert volume.endswith(":ro")
    for chatd in compose.chatd.values():
        build = chatd["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)


def test_grafana_finds_its_dashboard_and_prometheus(compose: Compose) -> None:
    provisioning = ROOT / "conf" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "chatd.yml").read_text())[
        "providers"
    ]
    mounted = [source_and_target(one)[1] for one in compose.services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/chatd.json" in mounted


def test_it_gives_no_more_rights_than_needed(compose: Compose) -> None:
    for name, service in compose.services.items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "build" in service or re.search(r":v?\d", service["image"]), f"{name}: any version"
    for chatd in compose.chatd.values():
        assert (chatd["read_only"], chatd["cap_drop"]) == (True, ["ALL"])
        assert "ports" not in chatd
    assert compose.networks["storage"]["internal"]


# -- several servers ---------------------------------------------------------------------------


def test_the_servers_are_one_cluster(cluster: Compose) -> None:
    settings = cluster.settings()
    refuse_open_cluster(settings)
    assert len(cluster.chatd) == 3
    nats = urlsplit(settings.cluster.nats_url or "")
    (network,) = cluster.services[str(nats.hostname)]["networks"]
    assert cluster.networks[network]["internal"]
    assert all(network in chatd["networks"] for chatd in cluster.chatd.values())
    (key,) = {str(settings.key_path).removeprefix("/run/secrets/")}
    assert all(chatd["secrets"] == [key] for chatd in cluster.chatd.values())
    # What is made anew with each container holds nothing that another has to have.
    assert not any(chatd["volumes"] for chatd in cluster.chatd.values())


def test_another_has_the_volumes_of_the_one(cluster: Compose) -> None:
    """Who goes from the one file to the other keeps all messages."""
    one = Compose(ONE)
    assert one.volumes.keys() - cluster.volumes.keys() == {"chatd"}
    names = [yaml.safe_load(path.read_text())["name"] for path in (ONE, CLUSTER)]
    assert names[0] == names[1]


@pytest.mark.nats
def test_nats_lets_in_who_has_the_password(
    cluster: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with a nats.conf without its password."""
    nats, settings = cluster.services["nats"], cluster.settings().cluster
    config = cluster.mounted("nats", nats["command"][1])
    for name, value in nats["environment"].items():
        monkeypatch.setenv(name, value)
    assert settings.nats_password is not None
    password = settings.nats_password.get_secret_value()
    assert settings.nats_url == "nats://nats:4222"
    assert "port: 4222" in config.read_text()
    with closing(NatsServer(tmp_path, "-c", str(config), "-m", str(free_port()))) as server:
        server.start()
        news = "chatd.5d1f.all"
        assert say_to_nats(server, settings.nats_user, password, news) == "PONG"
        assert "Permissions Violation" in say_to_nats(server, settings.nats_user, password, "x")
        for user, word in ((settings.nats_user, "guess"), ("root", password), (None, None)):
            assert "Authorization Violation" in say_to_nats(server, user, word, news)


def say_to_nats(server: NatsServer, user: str | None, password: str | None, subject: str) -> str:
    """What it answers to somebody who listens to a subject."""
    hello = {"verbose": False, "user": user, "pass": password}
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        lines = connection.makefile("rw", newline="\r\n")
        assert lines.readline().startswith("INFO ")
        lines.write(f"CONNECT {json.dumps(hello)}\nSUB {subject} 1\nPING\n")
        lines.flush()
        return lines.readline().strip()


def test_its_first_lines_make_what_it_needs(cluster: Compose, tmp_path: Path) -> None:
    commands = re.findall(r"^#   (\S.*(?:\n#     \S.*)*)", CLUSTER.read_text(), re.MULTILINE)
    wanted = [one for one in commands if one.startswith("printf")]
    script = "\n".join(["umask 077", *(one.replace("\n#", "\n") for one in wanted)])
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    given = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    needed = re.findall(r"\$\{(\w+):\?", ONE.read_text() + CLUSTER.read_text())
    assert given.keys() == set(needed)
    assert len(set(given.values())) == len(given)
    assert len(KeyRing.open(tmp_path / cluster.secrets["keys"]["file"]).signing) == 32
    ignored = (DOCKER / ".gitignore").read_text().split()
    assert {one.name for one in tmp_path.iterdir()} == set(ignored)


def test_a_server_is_awaited_until_it_takes_work(cluster: Compose, tmp_path: Path) -> None:
    """Seen to fail with a healthcheck that asks /healthz, and with one that says no Host."""
    program, *arguments = cluster.services["chatd2"]["healthcheck"]["test"][1:]
    assert program == "python3"
    environment = {"CHATD_SERVER__ALLOWED_HOSTS": "chat.example.org,chatd2"}
    nowhere = f"mongodb://127.0.0.1:{free_port()}/chatd"
    found = []
    for name, storage in (("ready", "sqlite:chatd.db"), ("starting", nowhere)):
        made = Server(tmp_path / name, storage=storage, environment=environment)
        with closing(made) as server:
            (port,) = re.findall(r":(\d+)", server.start())
            command = [sys.executable, *(one.replace("8080", port) for one in arguments)]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            found.append(done.returncode)
    assert found == [0, 1]
