"""chatd keeps the rules of docs/architecture.md on imports and state; the rules find offences."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.import_rules import (
    RULES,
    Rule,
    Source,
    cycles,
    imports_beyond_the_narrow,
    module_state,
    read,
    stray_drivers,
    unknown_modules,
    upward_imports,
)

PACKAGE: Final = Path(__file__).parent.parent / "chatd"


@pytest.fixture(scope="module")
def chatd() -> Source:
    return read(PACKAGE)


def test_the_source_is_found_and_read(chatd: Source) -> None:
    assert {"chatd", "chatd.errors", "chatd.storage.base"} <= chatd.modules.keys()
    assert ("chatd.storage.base", "chatd.models") in {one[:2] for one in chatd.imports}


@pytest.mark.parametrize("rule", RULES)
def test_chatd_has_no(rule: Rule, chatd: Source) -> None:
    broken = list(rule(chatd))
    assert not broken, "\n".join(broken)


# -- the rules find what they are for ----------------------------------------------------------


def broken_by(rule: Rule, folder: Path, **files: str) -> list[str]:
    """What a rule says of a package of these modules; `__` in a name stands for a folder."""
    (folder / "chatd").mkdir()
    for name, text in files.items():
        path = (folder / "chatd" / name.replace("__", "/")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return list(rule(read(folder / "chatd")))


def test_a_module_without_a_layer_is_told_where_to_be_entered(tmp_path: Path) -> None:
    assert broken_by(unknown_modules, tmp_path, router="", gossip="") == [
        "chatd.gossip has no layer: enter 'gossip' in LAYERS, tests/import_rules.py"
    ]


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("models", "import chatd.frames"),
        ("router", "from chatd import handlers"),
        ("handlers__users", "from chatd.app import App"),
        ("journal", "def late():\n    from chatd import router"),
        (
            "connection",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import chatd.wire",
        ),
        ("registry", "from . import router"),
        ("storage__base", "from ..journal import MessageJournal"),
    ],
)
def test_an_import_from_a_layer_above_is_found(tmp_path: Path, importer: str, text: str) -> None:
    files = dict.fromkeys(("app", "frames", "router", "wire", "journal"), "")
    found = broken_by(upward_imports, tmp_path, handlers__base="", **{**files, importer: text})
    assert len(found) == 1, found
    assert f"chatd.{importer.replace('__', '.')} line {text.count(chr(10)) + 1}: " in found[0]


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("cli", "from chatd.app import App"),
        ("receipts", "from chatd.registry import ConnectionRegistry"),
        ("handlers__users", "from chatd.handlers.base import Handler"),
        ("errors", "from chatd import __version__"),
    ],
)
def test_an_import_within_a_layer_or_from_below_is_fine(
    tmp_path: Path, importer: str, text: str
) -> None:
    assert not broken_by(upward_imports, tmp_path, app="", registry="", **{importer: text})


def test_storage_may_import_nothing_but_models_and_errors(tmp_path: Path) -> None:
    files = {
        "frames": "",
        "storage__base": "from chatd import errors, models",
        "storage__memory": "import asyncio\nfrom chatd.storage.base import Storage",
        "storage__sqlite": "from chatd.frames import encode",
    }
    found = broken_by(imports_beyond_the_narrow, tmp_path, models="", errors="", **files)
    assert len(found) == 1, found
    assert found[0].startswith("chatd.storage.sqlite line 1: imports chatd.frames, but of chatd it")


@pytest.mark.parametrize(
    ("home", "stranger", "library"),
    [
        ("app", "router", "tornado.web"),
        ("handlers__socket", "connection", "tornado.websocket"),
        ("wire", "openapi", "tornado"),
        ("security", "accounts", "jwt"),
        ("security", "accounts", "passlib.hash"),
        ("storage__sqlite_schema", "storage__memory", "sqlite3"),
        ("storage__mongo", "storage__sqlite", "motor.motor_asyncio"),
        ("storage__mongo", "journal", "pymongo"),
    ],
)
def test_a_library_outside_its_home_is_found(
    tmp_path: Path, home: str, stranger: str, library: str
) -> None:
    text = f"def late():\n    from {library} import something"
    found = broken_by(stray_drivers, tmp_path, **{home: text, stranger: text})
    assert len(found) == 1, found
    assert found[0].startswith(f"chatd.{stranger.replace('__', '.')} line 2: imports {library}")


def test_a_cycle_is_found_and_told(tmp_path: Path) -> None:
    found = broken_by(
        cycles,
        tmp_path,
        journal="import chatd.receipts",
        receipts="from chatd import registry",
        registry="def late():\n    from chatd.journal import MessageJournal",
    )
    assert len(found) == 1, found
    chain = found[0].removeprefix("import cycle: ").split(" → ")
    assert set(pairwise(chain)) == {
        ("chatd.journal", "chatd.receipts"),
        ("chatd.receipts", "chatd.registry"),
        ("chatd.registry", "chatd.journal"),
    }


def test_an_import_for_types_makes_no_cycle(tmp_path: Path) -> None:
    late = "import typing\nif typing.TYPE_CHECKING:\n    import chatd.journal"
    assert not broken_by(cycles, tmp_path, journal="import chatd.receipts", receipts=late)


@pytest.mark.parametrize(
    "text",
    [
        "seen = []",
        "seen: dict[str, int] = {}",
        "seen = {name for name in ()}",
        "seen = collections.deque(maxlen=3)",
        "seen = defaultdict[str, int](int)",
        "lock = asyncio.Lock()",
        "if True:\n    seen = set()",
        "try:\n    import x\nexcept ImportError:\n    seen = {}",
        "count = 0\ndef next():\n    global count\n    count += 1",
        "SEEN: Final = {}\ndef see(x):\n    SEEN[x] = 1",
        "SEEN: Final = set()\nclass A:\n    def see(self, x):\n        SEEN.add(x)",
        "ROUTES = []\ndef route(x):\n    ROUTES.append(x)",
    ],
)
def test_state_of_a_module_is_found(tmp_path: Path, text: str) -> None:
    found = broken_by(module_state, tmp_path, router=text)
    assert len(found) == 1, found
    assert "state of a module" in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "__all__ = ['Router']",
        "ROUTES = [('/', Handler)]",
        "CODES: Final = {1: 'one'}\ndef code(x):\n    return CODES[x]",
        "log = structlog.get_logger()",
        "PATTERN = re.compile('x')",
        "Outcome = Stored | Duplicate",
        "NAMES = frozenset({'a'})\nORDER = ('a', 'b')",
        "class Struct:\n    names: list[str] = []",
        "def f():\n    seen = []\n    seen.append(1)",
    ],
)
def test_constants_loggers_and_types_are_no_state(tmp_path: Path, text: str) -> None:
    assert not broken_by(module_state, tmp_path, router=text)
