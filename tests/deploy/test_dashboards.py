"""The alerts and the dashboard read what a server really tells, and can be followed up."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chatd.errors import ChatError, CloseCode
from tests.chat import Chat, start_app
from tests.deploy.promql import SCRAPED, reads

CONF: Final = Path(__file__).parents[2] / "conf"
ALERTS: Final = CONF / "prometheus" / "alerts.yml"
PROMETHEUS: Final = CONF / "prometheus" / "prometheus.yml"
PROMETHEUS_OF_A_CLUSTER: Final = CONF / "prometheus" / "prometheus.cluster.yml"
DASHBOARD: Final = CONF / "grafana" / "chatd.json"
OPERATIONS: Final = CONF.parent / "docs" / "operations.md"
CASES: Final = Path(__file__).parent / "alerts_test.yml"

OF_PROMETHEUS: Final = {"up": frozenset[str]()}
"""What Prometheus itself tells of every server."""

Exported = dict[str, frozenset[str]]
"""The names of a server's samples, with their labels."""


@pytest.fixture
async def exported(io_loop: Any, tmp_path: Path) -> AsyncGenerator[Exported, None]:
    """What a server tells once everything that has labels has happened."""
    app = await start_app(tmp_path)
    chat = Chat(await app.start())
    ann = await chat.user("ann@example.org")
    await chat.call("GET", "/v1/auth/me")
    async with ann.socket() as socket:
        await socket.say("Hello", to=ann.email)
        await socket.settle()
    app.metrics.failed("test.failed", ValueError("on purpose"))
    app.metrics.cluster_changed("cluster.connected")
    app.metrics.news_told("PulseNews")
    text = (await chat.call("GET", "/metrics")).body
    families = list(text_string_to_metric_families(text))
    without = [family.name for family in families if not family.samples]
    assert not without, f"nothing was counted for {without}: their labels are not known"
    yield {
        sample.name: frozenset(sample.labels)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    chat.close()
    await app.stop()


# -- alerts ------------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_alerts_read_what_a_server_tells(io_loop: Any, exported: Exported) -> None:
    for alert in alerts():
        assert_tells(exported, alert["expr"])


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]
    assert notes["summary"]
    assert notes["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
    assert f"\n### {alert['alert']}\n" in OPERATIONS.read_text()
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [
        (one["alertname"], bool(one["exp_alerts"]))
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for one in test["alert_rule_test"]
    ]
    names = [alert["alert"] for alert in alerts()]
    assert sorted(cases) == sorted((name, fires) for name in names for fires in (True, False))


@pytest.mark.promtool
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", str(ALERTS)],
        ["check", "config", "--syntax-only", str(PROMETHEUS)],
        ["check", "config", "--syntax-only", str(PROMETHEUS_OF_A_CLUSTER)],
        ["test", "rules", str(CASES)],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_agrees(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- the dashboard -----------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a panel stands, in Grafana's units; 24 are the whole width."""

    x: int
    y: int
    w: int
    h: int

    def covers(self, other: Place) -> bool:
        aside = self.x + self.w <= other.x or other.x + other.w <= self.x
        return not aside and self.y < other.y + other.h and other.y < self.y + self.h


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """All that it asks for, with something in place of Grafana's variables."""
    asked = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    asked += [one["expr"] for one in dashboard["annotations"]["list"]]
    for one in dashboard["templating"]["list"]:
        label_values = re.fullmatch(r"label_values\((.+), \w+\)", one.get("definition", ""))
        asked += [label_values[1]] if label_values else []
    names = {one["name"] for one in dashboard["templating"]["list"]}
    for expression in asked:
        assert set(re.findall(r"\$(?!__)(\w+)", expression)) <= names
        yield re.sub(r"\$\w+", "some", re.sub(r"\$__(rate_)?interval", "5m", expression))


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


async def test_panels_read_what_a_server_tells(
    io_loop: Any, exported: Exported, dashboard: dict[str, Any]
) -> None:
    for expression in expressions(dashboard):
        assert_tells(exported, expression)


async def test_all_that_chatd_counts_is_shown(
    io_loop: Any, exported: Exported, dashboard: dict[str, Any]
) -> None:
    shown = {read.metric for one in expressions(dashboard) for read in reads(one)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    counted = {re.sub("_(bucket|count|sum)$", "", name) for name in exported}
    assert {name for name in counted if name.startswith("chatd_")} <= families


def test_panels_stand_side_by_side(dashboard: dict[str, Any]) -> None:
    places = [Place(**panel["gridPos"]) for panel in dashboard["panels"]]
    for number, place in enumerate(places):
        assert place.x + place.w <= 24
        assert not any(place.covers(other) for other in places[number + 1 :])


def test_panels_can_be_told_apart(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    for panel in panels(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        sources = {one["datasource"]["uid"] for one in (panel, *panel["targets"])}
        assert sources == {"${datasource}"}


# -- both --------------------------------------------------------------------------------------


def assert_tells(exported: Exported, expression: str) -> None:
    """The server tells every metric of an expression, with the labels that it names, and these
    may have the values that it looks for."""
    found = reads(expression)
    assert found, expression
    told = {**exported, **OF_PROMETHEUS}
    for read in found:
        assert read.metric in told, f"{read.metric}, in {expression}"
        labels = (read.matchers.keys() | read.grouped) - SCRAPED
        assert labels <= told[read.metric], f"{labels} of {read.metric}, in {expression}"
        for value in read.matchers.get("code", "").split("|"):
            assert value in known_codes(), f"code {value}, in {expression}"


def known_codes() -> set[str]:
    """Of refusals and of closed connections."""

    def below(kind: type[ChatError]) -> Iterator[str]:
        yield kind.code
        for one in kind.__subclasses__():
            yield from below(one)

    return {"", *below(ChatError), *(str(code.value) for code in CloseCode)}
