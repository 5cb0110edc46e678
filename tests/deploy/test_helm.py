"""The Helm chart: what it renders is valid for Kubernetes, and fits chatd."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from chatd.app import ROUTES
from chatd.deployment import refuse_open_cluster
from chatd.handlers.health import MetricsHandler
from chatd.keys import KeyRing
from chatd.settings import Settings, load

pytestmark = pytest.mark.helm

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "conf" / "helm" / "chatd"
PATH: Final = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
KUBERNETES: Final = ("1.25", "1.34")
"""The oldest that the chart names, and one that is current."""

ROLLING: Final = CHART / "values" / "rolling.yaml"
CANARY: Final = CHART / "values" / "canary.yaml"
CLUSTER: Final = CHART / "values" / "cluster.yaml"
CASES: Final = {
    "default": (),
    "rolling": (ROLLING,),
    "canary": (ROLLING, CANARY),
    "cluster": (CLUSTER,),
    "canary of a cluster": (CLUSTER, CANARY),
}
"""The values files of each."""

Manifest = dict[str, Any]


def helm(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(shutil.which("helm", path=PATH)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def options(values: Sequence[Path]) -> list[str]:
    return [word for path in values for word in ("--values", str(path))]


class Rendered:
    """The manifests of one release."""

    def __init__(self, release: str, *arguments: str) -> None:
        done = helm("template", release, CHART, "--namespace", "chat", *arguments)
        assert done.returncode == 0, done.stderr
        self.manifests: list[Manifest] = list(filter(None, yaml.safe_load_all(done.stdout)))

    def of(self, kind: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (found,) = self.of(kind)
        return found

    @property
    def pod(self) -> Manifest:
        return dict(self.one("Deployment")["spec"]["template"]["spec"])

    @property
    def chatd(self) -> Manifest:
        (container,) = self.pod["containers"]
        return dict(container)

    def environment(self) -> dict[str, str]:
        """What chatd finds, given that its Secrets are those that the chart makes."""
        found: dict[str, str] = {}
        for source in self.chatd["envFrom"]:
            ((kind, reference),) = source.items()
            kind = {"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind]
            for one in self.of(kind):
                if one["metadata"]["name"] == reference["name"]:
                    found |= one.get("data") or one["stringData"]
        for one in self.chatd["env"]:
            text = one.get("value", "10.1.2.3")
            found[one["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], text)
        return found

    def settings(self) -> Settings:
        return load(None, self.environment(), {})


@pytest.fixture(scope="module", params=CASES)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return Rendered("chatd", *options(CASES[request.param]))


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing(case: str) -> None:
    done = helm("lint", "--strict", "--quiet", CHART, *options(CASES[case]))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest(rendered: Rendered, version: str) -> None:
    for manifest in rendered.manifests:
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, version, strict=True)


def test_chatd_takes_its_settings(rendered: Rendered) -> None:
    settings = rendered.settings()
    assert "chat.example.org" in settings.server.allowed_hosts
    assert settings.server.trusted_proxies
    assert settings.logging.format == "json"


def test_numbers_and_lists_arrive_as_they_are() -> None:
    """Seen to fail with values that are written as Go does, 2.097152e+06."""
    chosen = ("limits.outbox_bytes=2097152", "uuids.batch=500", "websocket.ping_seconds=2.5")
    more = [word for one in chosen for word in ("--set-json", f"settings.{one}")]
    more += [
        "--set-json",
        'settings.server.allowed_origins=["https://a.example","https://b.example"]',
    ]
    settings = Rendered("chatd", *more).settings()
    assert settings.limits.outbox_bytes == 2_097_152
    assert settings.uuids.batch == 500
    assert settings.websocket.ping_seconds == 2.5
    assert settings.server.allowed_origins == ("https://a.example", "https://b.example")


def test_a_service_called_chatd_brings_no_settings(rendered: Rendered) -> None:
    """Kubernetes would set CHATD_SERVICE_HOST and others, with which chatd does not start."""
    assert rendered.one("Service")["metadata"]["name"] == "chatd"
    assert rendered.pod["enableServiceLinks"] is False


def test_it_has_the_time_to_drain() -> None:
    for drain in (10, 42):
        made = Rendered("chatd", "--set", f"settings.server.drain_seconds={drain}")
        stop = made.chatd["lifecycle"]["preStop"]["exec"]["command"]
        assert stop[0] == "sleep"
        assert made.settings().server.drain_seconds == drain
        assert made.pod["terminationGracePeriodSeconds"] > int(stop[1]) + drain


def test_probes_ask_what_chatd_answers(rendered: Rendered) -> None:
    known = {route.path for route in ROUTES}
    probes = {name: one for name, one in rendered.chatd.items() if name.endswith("Probe")}
    assert len(probes) == 3
    for probe in probes.values():
        asked = probe["httpGet"]
        assert asked["path"] in known
        (host,) = asked["httpHeaders"]
        assert host["name"] == "Host"
        assert host["value"] in rendered.settings().server.allowed_hosts
        assert asked["port"] in [port["name"] for port in rendered.chatd["ports"]]
    assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert probes["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert rendered.chatd["ports"][0]["containerPort"] == rendered.settings().server.port


def test_pods_have_no_right_that_they_do_not_need(rendered: Rendered) -> None:
    pod = rendered.pod
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
    dockerfile = (ROOT / "conf" / "docker" / "Dockerfile").read_text()
    assert f"USER {user}:{group}" in dockerfile
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_everything_is_about_the_same_pods(rendered: Rendered) -> None:
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        rendered.one("Deployment")["spec"]["selector"]["matchLabels"],
        rendered.one("Service")["spec"]["selector"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    service = rendered.one("Service")
    for monitor in rendered.of("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert wanted <= service["metadata"]["labels"].items()
    backend = rendered.one("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]


def test_the_ingress_has_more_patience_than_chatd_with_a_silent_socket(rendered: Rendered) -> None:
    sockets = rendered.settings().websocket
    annotations = rendered.one("Ingress")["metadata"]["annotations"]
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        patience = float(annotations[f"nginx.ingress.kubernetes.io/{name}"])
        assert patience > sockets.ping_seconds + sockets.pong_seconds


def test_what_is_mounted_is_there(rendered: Rendered) -> None:
    pod = rendered.pod
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in (*pod["containers"], *pod["initContainers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    data = [one for one in rendered.chatd["volumeMounts"] if one["name"] == "data"]
    assert data[0]["mountPath"] in (ROOT / "conf" / "docker" / "Dockerfile").read_text()
    for volume in volumes.values():
        if claim := volume.get("persistentVolumeClaim"):
            assert claim["claimName"] == rendered.one("PersistentVolumeClaim")["metadata"]["name"]


# -- one by one --------------------------------------------------------------------------------


def test_of_sqlite_there_is_one_server_at_a_time() -> None:
    made = Rendered("chatd")
    deployment = made.one("Deployment")["spec"]
    assert made.settings().storage.url.startswith("sqlite:")
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    kept = made.one("PersistentVolumeClaim")["metadata"]["annotations"]
    assert kept["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("values", [ROLLING, CLUSTER], ids=lambda path: path.stem)
def test_another_server_is_there_before_one_goes(values: Path) -> None:
    made = Rendered("chatd", *options((values,)))
    strategy = made.one("Deployment")["spec"]["strategy"]
    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert made.settings().storage.url.startswith("mongodb:")
    assert not made.of("PersistentVolumeClaim")


def test_prometheus_gets_in_with_the_token_and_calls_it_chatd() -> None:
    made = Rendered("chatd", *options((ROLLING,)))
    (endpoint,) = made.one("ServiceMonitor")["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    secret = next(
        one for one in made.of("Secret") if one["metadata"]["name"] == credentials["name"]
    )
    token = made.settings().metrics.token
    assert token is not None
    assert secret["stringData"][credentials["key"]] == token.get_secret_value()
    assert endpoint["path"] in {r.path for r in ROUTES if r.handler is MetricsHandler}
    assert "10.1.2.3" in made.settings().server.allowed_hosts
    assert {"targetLabel": "job", "replacement": "chatd"} in endpoint["relabelings"]


@pytest.mark.parametrize("values", [ROLLING, CLUSTER], ids=lambda path: path.stem)
def test_keys_that_the_chart_makes_are_keys(values: Path, tmp_path: Path) -> None:
    made = Rendered("chatd", *options((values,)))
    (volume,) = [one for one in made.pod["volumes"] if one["name"] == "keys"]
    secret = next(
        one
        for one in made.of("Secret")
        if one["metadata"]["name"] == volume["secret"]["secretName"]
    )
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_bytes(base64.b64decode(secret["data"]["keys.json"]))
    assert len(KeyRing.open(path).signing) == 32


def test_keys_become_chatd_s_alone(tmp_path: Path) -> None:
    """As the pod's first container does it, without a cluster."""
    made = Rendered("chatd", *options((ROLLING,)))
    (init,) = made.pod["initContainers"]
    given, data = tmp_path / "keys", tmp_path / "data"
    given.mkdir()
    data.mkdir()
    KeyRing.open(given / "keys.json")
    (given / "keys.json").chmod(0o440)
    program, flags, script = init["command"]
    script = script.replace("/keys/", f"{given}/").replace("/var/lib/chatd/", f"{data}/")
    for _ in range(2):
        subprocess.run([program, flags, script], check=True)
    ours, theirs = KeyRing.open(data / "keys.json"), (given / "keys.json").read_bytes()
    assert (data / "keys.json").read_bytes() == theirs
    assert ours.signing


def test_a_server_that_would_forget_its_keys_is_refused() -> None:
    done = helm("template", "chatd", CHART, "--set", "persistence.enabled=false")
    assert done.returncode != 0
    assert "set keys.create or keys.existing" in done.stderr


def test_a_canary_stands_beside_the_release_and_shares_its_secrets() -> None:
    first = Rendered("chatd", *options((ROLLING,)))
    canary = Rendered("chatd-canary", *options((ROLLING, CANARY)))
    assert (
        canary.one("Ingress")["spec"]["rules"][0]["host"]
        == (first.one("Ingress")["spec"]["rules"][0]["host"])
    )
    annotations = canary.one("Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary"] == "true"
    assert annotations["nginx.ingress.kubernetes.io/canary-weight"] == "5"
    assert not canary.of("Secret")
    made = {one["metadata"]["name"] for one in first.of("Secret")}
    used = {one["secretRef"]["name"] for one in canary.chatd["envFrom"] if "secretRef" in one}
    used |= {one["secret"]["secretName"] for one in canary.pod["volumes"] if "secret" in one}
    assert used == made
    names = [{(m["kind"], m["metadata"]["name"]) for m in one.manifests} for one in (first, canary)]
    assert not names[0] & names[1]


def test_servers_of_a_cluster_are_one() -> None:
    made = Rendered("chatd", *options((CLUSTER,)))
    settings = made.settings()
    refuse_open_cluster(settings)
    assert settings.cluster.nats_password is not None
    ports = {
        port["port"]
        for rule in made.one("NetworkPolicy")["spec"]["egress"]
        for port in rule["ports"]
        if "to" in rule
    }
    assert ports == {27_017, urlsplit(settings.cluster.nats_url or "").port}
    service, ingress = made.one("Service")["spec"], made.one("Ingress")["metadata"]
    assert "sessionAffinity" not in service
    assert not any("affinity" in name for name in ingress["annotations"])


def test_servers_of_a_cluster_do_not_go_together() -> None:
    """Seen to fail with constraints that select no pods."""
    made = Rendered("chatd", *options((CLUSTER,)))
    budget, deployment = made.one("PodDisruptionBudget")["spec"], made.one("Deployment")["spec"]
    assert (deployment["replicas"], budget["maxUnavailable"]) == (3, 1)
    labels = deployment["template"]["metadata"]["labels"].items()
    spread = made.pod["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    for one in spread:
        selected = one["labelSelector"]["matchLabels"].items()
        assert selected
        assert selected <= labels


def test_nats_has_the_password_that_the_chart_makes() -> None:
    """By what values/cluster.yaml says about NATS's own chart."""
    made = Rendered("chatd", *options((CLUSTER,)))
    said = re.findall(r"<<'END'\n(.*?)#   END", CLUSTER.read_text(), re.DOTALL)[0]
    nats = yaml.safe_load(re.sub("^#   ", "", said, flags=re.MULTILINE))
    (user,) = nats["config"]["merge"]["authorization"]["users"]
    (variable,) = re.findall(r"<< \$(\w+) >>", user["password"])
    reference = nats["container"]["env"][variable]["valueFrom"]["secretKeyRef"]
    secrets = {one["metadata"]["name"]: one for one in made.of("Secret")}
    password = secrets[reference["name"]]["stringData"][reference["key"]]
    settings = made.settings().cluster
    assert settings.nats_password is not None
    assert (user["user"], password) == (
        settings.nats_user,
        settings.nats_password.get_secret_value(),
    )
    assert len(password) > 20
    chosen = Rendered("chatd", *options((CLUSTER,)), "--set", "secrets.natsPassword=7c4f0ab2")
    given = chosen.settings().cluster.nats_password
    assert given is not None
    assert given.get_secret_value() == "7c4f0ab2"


def test_a_server_without_nats_has_no_password_for_it() -> None:
    made = Rendered("chatd", "--set", "secrets.natsPassword=7c4f0ab2")
    assert made.settings().cluster.nats_password is None


def test_another_setting_is_another_pod() -> None:
    def checksum(*more: str) -> str:
        template = Rendered("chatd", *more).one("Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert checksum("--set", "settings.limits.replay=100") != checksum()


def test_a_value_that_means_nothing_is_refused() -> None:
    done = helm("template", "chatd", CHART, "--set", "replicaCount=3")
    assert done.returncode != 0
    assert "replicaCount" in done.stderr
