"""docs/client.md and the README's example are run to the letter, but for their port."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import chatd.client.errors as errors_module
from chatd.client import Client, ClientError, Event, Message
from tests.chat import PASSWORD
from tests.e2e.server import Server

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8080"


def blocks(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", storage="memory:")
    server.start()
    yield server
    server.close()


async def test_the_examples_of_the_documentation_run(
    io_loop: Any, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("docs/client.md")):
        source = block.replace(ADDRESS, server.url)
        code = compile(source, f"block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        async with asyncio.timeout(30):
            done = FunctionType(code, names)()
            if inspect.iscoroutine(done):
                await done
    printed = capsys.readouterr().out
    for line in (
        "ann@example.org in python: Hello, all",
        "ann@example.org in ann@example.org: Hello, Bob",
        "bob@example.org has read everything up to 1",
        "done: Please do this",
        "unknown_user",
        "(4401)",
    ):
        assert line in printed


def test_every_call_event_and_error_is_in_the_documentation() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "client.md").read_text(encoding="utf-8")))
    errors = (one for one in vars(errors_module).values() if isinstance(one, type))
    names = [name for name in vars(Client) if not name.startswith("_")]
    names += [one.__name__ for one in (*Event.__args__, *errors) if one is not ClientError]
    assert [name for name in names if name not in words] == []


async def test_the_example_of_the_readme_runs(io_loop: Any, server: Server) -> None:
    (block,) = blocks("README.md")
    async with await Client.sign_in(server.url, "ann@example.org", PASSWORD) as ann:
        await ann.create_group("python")
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            block.replace(ADDRESS, server.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            async for event in ann:
                if isinstance(event, Message):
                    assert event.text == "Hello from a program"
                    await ann.reply(event, "Hello, program")
                    break
        stdout, stderr = await program.communicate()
        assert (program.returncode, stderr) == (0, b"")
        assert stdout.decode() == "ann@example.org: Hello, program\n"
