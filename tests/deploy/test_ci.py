"""The example pipelines: valid, and what they name, the chart takes and they start is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.deploy.schemas import assert_valid
from tests.e2e.server import Server

ROOT: Final = Path(__file__).parents[2]
CI: Final = ROOT / "conf" / "ci"
GITHUB: Final = CI / "github.yml"
GITLAB: Final = CI / "gitlab.yml"
PATH: Final = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

Labels = dict[str, str]


# -- the pipelines -----------------------------------------------------------------------------


def scripts(path: Path) -> list[str]:
    """What a pipeline has shells do, step by step."""
    pipeline = yaml.safe_load(path.read_text())
    if path == GITHUB:
        steps = [step for job in pipeline["jobs"].values() for step in job["steps"]]
        return [step["run"] for step in steps if "run" in step]
    jobs = [job for job in pipeline.values() if isinstance(job, dict)]
    return [
        line for job in jobs for line in (*job.get("before_script", ()), *job.get("script", ()))
    ]


def test_github_takes_its_pipeline() -> None:
    assert_valid(GITHUB, "github-workflows")


def test_gitlab_takes_its_pipeline() -> None:
    assert_valid(GITLAB, "gitlab-ci", "--data-transform", "gitlab-ci")


def test_actions_of_others_are_named_by_what_they_are() -> None:
    used = re.findall(r"uses: (\S+)", GITHUB.read_text())
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one) for one in used)


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_shells_understand_what_they_are_to_do(path: Path) -> None:
    for script in scripts(path):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_what_the_pipeline_names_is_there(path: Path) -> None:
    text = "\n".join(scripts(path)).replace("$CHART", "conf/helm/chatd")
    named = set(re.findall(r"(?<![\w/])(?:conf|bin)/[\w./-]+", text))
    assert {"bin/test", "conf/ci/smoke.py", "conf/docker/Dockerfile"} <= named
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.helm
@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_helm_takes_what_the_pipeline_gives_it(path: Path) -> None:
    given = {
        "CHART": "conf/helm/chatd",
        "HOST": "x.example.org",
        "PRODUCTION_HOST": "x.example.org",
    }
    given |= {"RELEASE": "pr-1", "IMAGE": "registry.example/chatd", "DIGEST": f"sha256:{'0' * 64}"}
    rendered = 0
    for script in scripts(path):
        for command in re.findall(r"helm upgrade (.+)", script.replace("\\\n", " ")):
            words = shlex.split(re.sub(r"\$(\w+)", lambda name: given[name[1]], command))
            own = [one for one in words if one not in ("--install", "--create-namespace")]
            done = subprocess.run(
                [str(shutil.which("helm", path=PATH)), "template", *own],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert f"registry.example/chatd@{given['DIGEST']}" in done.stdout
            assert "host: x.example.org" in done.stdout
            rendered += 1
    assert rendered == 3


# -- its programs ------------------------------------------------------------------------------


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CI / name), *arguments],
        env={**os.environ, "SMOKE_PASSWORD": "correct horse battery"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_smoke_says_whether_a_server_works(tmp_path: Path) -> None:
    with closing(Server(tmp_path / "open")) as server:
        url = server.start()
        for seq in (1, 2):
            assert run("smoke.py", url).stdout == f"smoke: {url} works; message {seq} is stored\n"
    with closing(
        Server(tmp_path / "closed", environment={"CHATD_AUTH__SIGNUP": "closed"})
    ) as server:
        refused = run("smoke.py", server.start())
    assert refused.returncode == 1
    assert "POST /v1/auth/sign-in: 403" in refused.stderr


@contextmanager
def prometheus(answers: dict[str, list[Labels]]) -> Iterator[str]:
    """The address of something that answers queries by their metric, as Prometheus would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (asked,) = parse_qs(urlsplit(self.path).query)["query"]
            found = [{"metric": labels} for labels in answers[re.split(r"\W", asked)[0]]]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"result": found}}).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("up", "alerts", "status", "says"),
    [
        ([{"instance": "canary-1"}], [], 0, "no alert for canary-.+"),
        ([{"instance": "canary-1"}], [{"alertname": "ChatdFailures"}], 1, "ChatdFailures"),
        ([], [], 1, "no answer of an instance canary-.+"),
    ],
    ids=["well", "alert", "unknown"],
)
def test_a_canary_is_watched(
    up: list[Labels], alerts: list[Labels], status: int, says: str
) -> None:
    with prometheus({"up": up, "ALERTS": alerts}) as url:
        done = run("watch_alerts.py", url, "canary-.+", "0.1")
    assert done.returncode == status
    assert says in done.stdout + done.stderr
