"""bin/chatd and bin/test make and keep the checkout's environment; nothing here needs a network."""

from __future__ import annotations

import fcntl
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.stub_checkout import Checkout, Ended, end, first_line, make_checkout, wait_for


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout without an environment."""
    return make_checkout(tmp_path)


class FirstUse(NamedTuple):
    checkout: Checkout
    starts: Sequence[Ended]


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> FirstUse:
    """A checkout whose environment was just made, by two starts at the same time."""
    checkout = make_checkout(tmp_path_factory.mktemp("launchers"))
    started = [checkout.start("--one"), checkout.start("--two")]
    return FirstUse(checkout, [end(process) for process in started])


@pytest.fixture
def made(first_use: FirstUse) -> Checkout:
    """The same checkout for every test: its environment is there, and current."""
    checkout = first_use.checkout
    checkout.setup("# first\n")
    checkout.has_installed("something-that-is-absent")
    (checkout.root / "failing").unlink(missing_ok=True)
    (checkout.site / "sitecustomize.py").unlink(missing_ok=True)
    assert checkout.run().status == 0
    checkout.brings("libfaketime/vendor/libfaketime/src/libfaketime.so.1")
    return checkout


# -- which Python ----------------------------------------------------------------------------

TOO_OLD: Final = "sys.version_info = (3, 9, 2, 'final', 0)"


@pytest.mark.parametrize("launcher", ["chatd", "test"])
def test_a_python_that_is_too_old_says_so(fresh: Checkout, launcher: str) -> None:
    fresh.interpreter_starts_with(TOO_OLD)
    ended = fresh.run(launcher=launcher, PATH=str(fresh.site))
    sentence = f"chatd needs Python 3.11 or newer; this is 3.9.2 at {sys.executable}\n"
    assert ended == (1, "", sentence)
    assert not fresh.venv.exists()


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_newest_python_on_path_that_works_takes_over(fresh: Checkout, tmp_path: Path) -> None:
    fresh.interpreter_starts_with(TOO_OLD)
    shims, folder = tmp_path / "shims", tmp_path / "folder"
    program(shims, "python3.13", "exit 127")
    program(shims, "python3.12", "exit 127")
    for name in ("python3.11", "python3.12"):
        program(folder, name, f'[ "$1" = -c ] || echo {name} "$@"')
    ended = fresh.run("--help", PATH=f"{shims}:{folder}")
    assert ended == (0, f"python3.12 {fresh.root}/bin/chatd --help\n", "")


def test_a_python_without_venv_names_the_package_that_brings_it(fresh: Checkout) -> None:
    fresh.interpreter_starts_with("sys.modules['ensurepip'] = None")
    ended = fresh.run()
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.endswith("apt-get install python{}.{}-venv\n".format(*sys.version_info))
    assert ended.err.count("\n") == 1
    assert not fresh.stamp.exists()


# -- an environment that has chatd -----------------------------------------------------------


def test_where_chatd_is_installed_no_environment_is_made(fresh: Checkout) -> None:
    fresh.has_installed("pytest>=1", "something-that-is-absent; extra == 'other'")
    ended = fresh.run("--help", "--port", "1")
    assert ended.told == {
        "prefix": sys.prefix,
        "file": str(fresh.root / "chatd" / "cli.py"),
        "arguments": ["--help", "--port", "1"],
    }
    assert ended.err == ""
    assert not fresh.venv.exists()


# -- making .venv ----------------------------------------------------------------------------


def test_of_two_first_starts_one_makes_the_environment_and_both_run(first_use: FirstUse) -> None:
    checkout, starts = first_use
    assert [start.told["arguments"] for start in starts] == [["--one"], ["--two"]]
    assert {start.told["prefix"] for start in starts} == {str(checkout.venv)}
    waiting, making = sorted((start.err.splitlines() for start in starts), key=len)
    assert waiting == ["chatd: another start is making .venv; waiting for it"]
    assert making == [
        "chatd: making .venv (first use, about half a minute)",
        "chatd: installing what chatd needs",
        "chatd: packages to unpack: 1",
    ]


def test_a_current_environment_is_used_without_a_word(made: Checkout) -> None:
    ended = made.run("serve")
    assert ended.told["prefix"] == str(made.venv)
    assert ended.err == ""


def test_what_lies_in_the_current_folder_is_not_imported(made: Checkout, tmp_path: Path) -> None:
    (made.site / "json.py").write_text("raise SystemExit('the wrong json')")
    try:
        assert made.run(PYTHONPATH="").told["arguments"] == []
    finally:
        (made.site / "json.py").unlink()


def test_a_changed_setup_py_is_installed_once(made: Checkout) -> None:
    kept = made.venv / "kept"
    kept.touch()
    made.setup("# changed\n")
    assert made.run().err.startswith("chatd: bringing .venv up to date\n")
    assert made.run().err == ""
    assert kept.exists()


def test_an_environment_made_by_hand_is_installed_into(made: Checkout) -> None:
    kept = made.venv / "kept"
    kept.touch()
    made.stamp.unlink()
    assert made.run().err.startswith("chatd: bringing .venv up to date\n")
    assert kept.exists()


def test_pips_own_error_is_shown_and_the_environment_stays_as_good(made: Checkout) -> None:
    made.setup("# impossible\n")
    ended = made.run()
    assert (ended.status, ended.out) == (1, "")
    assert "chatd can't install what it needs; pip says:\n" in ended.err
    assert "  error: this setup.py asks for the impossible\n" in ended.err
    made.setup("# first\n")
    assert made.run().err == ""


def test_a_failed_update_leaves_an_environment_made_by_hand_as_it_is(made: Checkout) -> None:
    made.stamp.unlink()
    made.setup("# impossible\n")
    assert made.run().status == 1
    made.setup("# first\n")
    assert made.run().err.startswith("chatd: bringing .venv up to date\n")


def test_an_index_that_cant_be_reached_is_told(made: Checkout) -> None:
    made.setup("# unreachable\n")
    ended = made.run(PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:1/", PIP_RETRIES="1")
    assert ended.status == 1
    assert "chatd: the package index does not answer; pip tries again\n" in ended.err


def test_a_half_made_environment_is_made_again_even_from_within(made: Checkout) -> None:
    made.stamp.write_text('"unfinished"')
    ended = made.run(python=made.venv / "bin" / "python")
    assert "chatd: making .venv (the last one was left unfinished, " in ended.err
    assert ended.told["prefix"] == str(made.venv)


def test_a_start_that_had_to_wait_does_not_make_it_a_second_time(made: Checkout) -> None:
    current = made.stamp.read_text()
    with (made.venv / "chatd.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.stamp.write_text('"unfinished"')
        started = made.start()
        assert first_line(started.stderr).endswith("waiting for it\n")
        made.stamp.write_text(current)
    ended = end(started)
    assert ended.told["prefix"] == str(made.venv)
    assert ended.err == ""


def test_a_making_that_was_killed_is_done_again_once_its_pip_has_ended(fresh: Checkout) -> None:
    fresh.setup("# endless\n")
    started = fresh.start()
    assert "making .venv (first use" in first_line(started.stderr)
    wait_for(fresh.root / "building")
    started.kill()
    end(started)
    (fresh.venv / "half").touch()
    second = fresh.start()
    assert "waiting for it" in first_line(second.stderr)
    fresh.setup("# soon done\n")
    ended = end(second)
    assert ended.told["prefix"] == str(fresh.venv)
    assert "chatd: making .venv (the last one was left unfinished, " in ended.err
    assert not (fresh.venv / "half").exists()
    assert fresh.run().err == ""


def test_a_checkout_that_moved_gets_a_new_environment(made: Checkout, tmp_path: Path) -> None:
    moved = Checkout(tmp_path / "moved", made.site)
    shutil.copytree(made.root, moved.root, symlinks=True)
    ended = moved.run()
    assert "chatd: making .venv (the checkout or its Python has moved, " in ended.err
    assert ended.told["prefix"] == str(moved.venv)
    assert ended.told["file"] == str(moved.root / "chatd" / "cli.py")


def test_a_folder_that_cant_be_written_is_told(fresh: Checkout) -> None:
    fresh.venv.write_text("not a folder")
    ended = fresh.run()
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"chatd can't make its environment in {fresh.venv} (")
    assert ended.err.count("\n") == 1


# -- bin/test --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be all of PATH: it has all that tests drive, and no apt-get."""
    folder = tmp_path / "path"
    tools = "caddy curl chromium helm mongod nats-server nginx promtool strace"
    for name in [*tools.split(), "systemd-analyze", "unshare"]:
        program(folder, name, "exit 0")
    return folder


def test_bin_chatd_runs_in_the_environment_of_the_tests_and_keeps_it(
    made: Checkout, path: Path
) -> None:
    assert made.run(launcher="test", PATH=str(path)).status == 0
    assert made.run().err == ""
    made.setup("# changed after the tests\n")
    assert made.run().err != ""
    assert made.run("tests", launcher="test", PATH=str(path)).err == ""


def test_without_arguments_every_check_runs(made: Checkout, path: Path) -> None:
    ended = made.run(launcher="test", PATH=str(path))
    *others, (pytest, *arguments) = ([tool["tool"], *tool["arguments"]] for tool in ended.tools)
    assert others == [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["bandit", "-q", "-c", "pyproject.toml", "-r", "chatd", "bin"],
    ]
    assert [pytest, *arguments[:4]] == ["pytest", "-n", "4", "--dist", "loadfile"]
    assert "--cov" not in arguments
    assert ended.status == 0
    assert ended.last_line.startswith("chatd: all green in ")


@pytest.mark.parametrize("arguments", [["--full"], ["--full", "--seed", "5"]])
def test_the_full_counts_are_pytest_s_concern_and_every_check_runs(
    made: Checkout, path: Path, arguments: list[str]
) -> None:
    ended = made.run(*arguments, launcher="test", PATH=str(path))
    tools = [tool["tool"] for tool in ended.tools]
    assert tools == ["ruff", "ruff", "mypy", "bandit", "pytest"]
    assert ended.tools[-1]["arguments"][-1 - len(arguments) :] == ["--cov", *arguments]


def test_mutants_are_run_instead_of_all_else(made: Checkout, path: Path) -> None:
    ended = made.run("--mutants", "one", "two", launcher="test", PATH=str(path))
    assert [(tool["tool"], tool["arguments"]) for tool in ended.tools] == [
        ("mutants", ["one", "two"])
    ]


def test_with_arguments_only_pytest_runs_with_them(made: Checkout, path: Path) -> None:
    for arguments in (["tests/test_x.py", "-k", "y"], ["tests/test_x.py", "--full"]):
        ended = made.run(*arguments, launcher="test", PATH=str(path))
        assert [[tool["tool"], *tool["arguments"]] for tool in ended.tools] == [
            ["pytest", *arguments]
        ]


def test_settings_of_chatd_do_not_reach_the_tests(made: Checkout, path: Path) -> None:
    settings = {"CHATD_PORT": "1", "CHATD_TEST_CHROMIUM": "/x", "PATH": str(path)}
    ended = made.run("tests", launcher="test", **settings)
    assert [tool["settings"] for tool in ended.tools] == [{"CHATD_TEST_CHROMIUM": "/x"}]


def test_what_failed_is_named_and_the_others_run_nevertheless(made: Checkout, path: Path) -> None:
    (made.root / "failing").write_text("ruff mypy")
    ended = made.run(launcher="test", PATH=str(path))
    assert len(ended.tools) == 5
    assert ended.status == 1
    assert ended.last_line == "chatd: FAILED: ruff check, ruff format, mypy"


@pytest.mark.parametrize(
    ("ci", "status", "last_line"),
    [
        (
            "",
            0,
            r"chatd: all green in .* s, but no browser tests as chromium-headless-shell is missing",
        ),
        ("true", 1, r"chatd: FAILED: no browser tests as chromium-headless-shell is missing"),
    ],
)
def test_without_chromium_its_tests_are_left_out_and_that_is_told(
    made: Checkout, path: Path, ci: str, status: int, last_line: str
) -> None:
    (path / "chromium").unlink()
    ended = made.run("tests", launcher="test", PATH=str(path), CI=ci)
    assert [tool["arguments"] for tool in ended.tools] == [["-m", "not browser", "tests"]]
    assert ended.status == status
    assert re.fullmatch(last_line, ended.last_line)


APT_GET: Final = """
PATH=/usr/bin:/bin
while [ "$1" = -o ]; do shift 2; done
echo "$@" >> {folder}/log
[ "$1" = update ] || cp {folder}/curl {folder}/{brings}
"""


def test_root_gets_what_is_missing_from_apt(made: Checkout, path: Path) -> None:
    made.interpreter_starts_with("os.geteuid = lambda: 0")
    (path / "chromium").unlink()
    program(path, "apt-get", APT_GET.format(folder=path, brings="chromium"))
    ended = made.run("tests", launcher="test", PATH=str(path))
    assert (path / "log").read_text().splitlines() == [
        "update",
        "install -y chromium-headless-shell",
    ]
    assert ended.tools[0]["arguments"] == ["tests"]
    assert ended.err == "chatd: installing chromium-headless-shell with apt-get, once\n"


def test_others_than_root_leave_apt_alone(made: Checkout, path: Path) -> None:
    made.interpreter_starts_with("os.geteuid = lambda: 1000")
    (path / "curl").unlink()
    program(path, "apt-get", APT_GET.format(folder=path, brings="curl"))
    ended = made.run("tests", launcher="test", PATH=str(path))
    assert not (path / "log").exists()
    assert ended.tools[0]["arguments"] == ["-m", "not curl", "tests"]


@pytest.fixture
def bundled(made: Checkout) -> Iterator[Path]:
    """The mongod that the test extra leaves in `.venv`, empty."""
    mongod = made.brings("fiftyone/db/bin/mongod")
    yield mongod
    mongod.unlink()


def test_a_mongod_in_venv_will_do(made: Checkout, path: Path, bundled: Path) -> None:
    (path / "mongod").unlink()
    program(bundled.parent, bundled.name, '[ "$*" = --version ]')
    ended = made.run("tests", launcher="test", PATH=str(path))
    assert ended.tools[0]["arguments"] == ["tests"]


def test_a_mongod_that_is_named_will_do(made: Checkout, path: Path) -> None:
    (path / "mongod").rename(path / "another")
    named = str(path / "another")
    ended = made.run("tests", launcher="test", PATH=str(path), CHATD_TEST_MONGOD=named)
    assert ended.tools[0]["arguments"] == ["tests"]


def test_without_a_mongod_apt_has_nothing_to_give(made: Checkout, path: Path) -> None:
    made.interpreter_starts_with("os.geteuid = lambda: 0")
    (path / "mongod").unlink()
    program(path, "apt-get", APT_GET.format(folder=path, brings="mongod"))
    ended = made.run("tests", launcher="test", PATH=str(path))
    assert not (path / "log").exists()
    assert ended.tools[0]["arguments"] == ["-m", "not mongod", "tests"]
    assert ended.last_line.endswith(" s, but no mongod tests as mongod is missing")


def test_a_mongod_that_lacks_libraries_gets_them_from_apt(made: Checkout, path: Path) -> None:
    made.interpreter_starts_with("os.geteuid = lambda: 0")
    program(path, "mongod", "exit 127")
    program(path, "apt-get", APT_GET.format(folder=path, brings="mongod"))
    ended = made.run("tests", launcher="test", PATH=str(path))
    assert (path / "log").read_text().splitlines() == ["update", "install -y libcurl4"]
    assert ended.tools[0]["arguments"] == ["tests"]


@pytest.mark.parametrize("script", ["exit 127", None])
def test_a_mongod_that_does_not_run_is_told_and_fails_in_ci(
    made: Checkout, path: Path, script: str | None
) -> None:
    made.interpreter_starts_with("os.geteuid = lambda: 1000")
    named = path / "another"
    if script:
        program(path, named.name, script)
    ended = made.run(
        "tests", launcher="test", PATH=str(path), CHATD_TEST_MONGOD=str(named), CI="true"
    )
    assert ended.tools[0]["arguments"] == ["-m", "not mongod", "tests"]
    assert ended.status == 1
    assert ended.last_line == f"chatd: FAILED: no mongod tests as {named} does not run"


def test_what_the_machine_does_not_give_is_told_and_fails_in_ci(made: Checkout, path: Path) -> None:
    program(path, "unshare", "exit 1")
    made.brings("libfaketime/vendor/libfaketime/src/libfaketime.so.1").unlink()
    ended = made.run("tests", launcher="test", PATH=str(path), CI="true")
    assert ended.tools[0]["arguments"] == ["-m", "not faketime and not mount", "tests"]
    assert ended.status == 1
    assert ended.last_line == (
        "chatd: FAILED: no faketime tests as libfaketime is missing, "
        "no mount tests as a tmpfs can't be mounted"
    )
