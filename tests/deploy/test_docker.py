"""The image's Dockerfile and the compose file around it, as far as they can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from chatd.settings import load
from tests.deploy.schemas import assert_valid
from tests.e2e.server import Server

ROOT: Final = Path(__file__).parents[2]
DOCKER: Final = ROOT / "conf" / "docker"
DOCKERFILE: Final = DOCKER / "Dockerfile"
IGNORED: Final = DOCKER / "Dockerfile.dockerignore"
COMPOSE: Final = DOCKER / "compose.yml"
GIVEN: Final = {"METRICS_TOKEN": "0123456789abcdef0123", "GRAFANA_PASSWORD": "a good one"}
"""What a user puts into .env."""


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


# -- compose.yml -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as Compose reads it, with the variables of .env."""
    return dict(yaml.safe_load(interpolated(COMPOSE.read_text())))


def interpolated(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if kind == ":?":
            return GIVEN[name]
        return GIVEN.get(name, rest)

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)


def test_compose_yml_is_a_compose_file(compose: dict[str, Any]) -> None:
    assert_valid(COMPOSE, "compose-spec")
    for kind in ("networks", "volumes"):
        used = {
            one.partition(":")[0]
            for service in compose["services"].values()
            for one in service.get(kind, ())
            if not one.startswith(".")
        }
        assert used == compose[kind].keys()


def test_compose_yml_gives_chatd_settings_that_it_takes(compose: dict[str, Any]) -> None:
    chatd = compose["services"]["chatd"]
    settings = load(None, chatd["environment"], {})
    (edge,) = compose["networks"]["edge"]["ipam"]["config"]
    assert settings.server.trusted_proxies == (ip_network(edge["subnet"]),)
    assert float(chatd["stop_grace_period"].removesuffix("s")) > settings.server.drain_seconds
    members = re.findall(r"mongo\d", settings.storage.url)
    assert members == [name for name in compose["services"] if name.startswith("mongo")]
    check = compose["services"]["mongo1"]["healthcheck"]["test"][-1]
    assert all(f'host: "{name}"' in check for name in members)
    prometheus = yaml.safe_load((ROOT / "conf" / "prometheus" / "prometheus.yml").read_text())
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert host in settings.server.allowed_hosts
    assert int(port) == settings.server.port


def test_compose_yml_sets_what_the_caddyfile_asks_for(compose: dict[str, Any]) -> None:
    known = re.findall(r"\{\$(\w+)", (ROOT / "conf" / "caddy" / "Caddyfile").read_text())
    assert set(compose["services"]["caddy"]["environment"]) <= set(known)


def test_what_compose_yml_mounts_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists()
                assert volume.endswith(":ro")
    build = compose["services"]["chatd"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)


def test_grafana_finds_its_dashboard_and_prometheus(compose: dict[str, Any]) -> None:
    provisioning = ROOT / "conf" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "chatd.yml").read_text())[
        "providers"
    ]
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/chatd.json" in mounted


def test_compose_yml_gives_no_more_rights_than_needed(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "build" in service or re.search(r":v?\d", service["image"]), f"{name}: any version"
    chatd = compose["services"]["chatd"]
    assert (chatd["read_only"], chatd["cap_drop"]) == (True, ["ALL"])
    assert "ports" not in chatd
    assert compose["networks"]["storage"]["internal"]
