"""The checkout's own Python environment, ``.venv``: made on first use and kept current.

The launchers beside this file use it. Only the standard library, and only syntax that Python 3.8
knows, so that an interpreter which is too old can still say so. Progress goes to stderr: stdout
belongs to what is launched.

``.venv/chatd.json`` is the stamp: what the environment was made for. It reads ``unfinished``
while something is being made, so that a making that was killed is noticed. An environment
without a stamp was made by hand; it is installed into, never thrown away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections import deque
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NoReturn, Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "chatd.json"
LOCK = VENV / "chatd.lock"

OLDEST_PYTHON = (3, 11)
PROGRESS_SECONDS = 2
NEWER_PYTHONS = ("python3.13", "python3.12", "python3.11")


class Failure(Exception):
    """Nothing can be launched; the text is a sentence for the person at the terminal."""


def main(launch: Callable[[list[str]], int | None]) -> NoReturn:
    """Run a launcher with the command line's arguments, and exit with what it returns."""
    status: int | None
    try:
        require_python()
        status = launch(sys.argv[1:])
    except Failure as failure:
        print(failure, file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def say(text: str) -> None:
    print(f"chatd: {text}", file=sys.stderr, flush=True)


def launch_chatd(arguments: list[str]) -> None:
    """Become chatd's command line: in the running interpreter if it can, else in ``.venv``'s."""
    if _has_chatd():
        sys.path[0] = str(ROOT)  # the code of this checkout, not what may be installed beside it
        runpy.run_module("chatd.cli", run_name="__main__", alter_sys=True)
    else:
        python = str(ready())
        # -P: the folder one happens to stand in is no place to import from.
        os.execv(python, [python, "-P", "-m", "chatd.cli", *arguments])


# -- which Python ----------------------------------------------------------------------------


def require_python() -> None:
    """Return if this Python is new enough; otherwise start anew in the newest on PATH that is."""
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return
    for name in NEWER_PYTHONS:
        for folder in os.get_exec_path():
            candidate = shutil.which(name, path=folder)
            if candidate and _is_new_enough(candidate):
                os.execv(candidate, [candidate, *sys.argv])
    needed = ".".join(map(str, OLDEST_PYTHON))
    this = ".".join(map(str, sys.version_info[:3]))
    raise Failure(f"chatd needs Python {needed} or newer; this is {this} at {sys.executable}")


def _is_new_enough(python: str) -> bool:
    """Ask it: what is named python3.12 may be a shim with no Python behind it."""
    check = f"import sys; sys.exit(sys.version_info[:2] < {OLDEST_PYTHON})"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _has_chatd() -> bool:
    """Whether chatd and all it needs are installed where this interpreter runs.

    The checkout's own ``.venv`` does not count: whether that is current its stamp says.
    """
    if Path(sys.prefix).resolve() == VENV.resolve():
        return False
    try:
        for requirement in metadata.requires("chatd") or ():
            name = re.match(r"[\w.-]+", requirement)
            if name and "extra ==" not in requirement:
                metadata.version(name[0])
    except metadata.PackageNotFoundError:
        return False
    return True


# -- .venv -----------------------------------------------------------------------------------


def ready(extras: Sequence[str] = ()) -> Path:
    """Return the interpreter of a current ``.venv`` that has these extras of setup.py.

    It is made or brought up to date where need be, by one process at a time.
    """
    if _is_current(extras):
        return PYTHON
    try:
        with _locked() as lock:
            if not _is_current(extras):
                _make(extras, lock)
    except OSError as error:
        raise Failure(
            f"chatd can't make its environment in {VENV} ({error}); "
            f"make {ROOT} writable, or install chatd elsewhere: pip install {ROOT}"
        ) from error
    return PYTHON


def _is_current(extras: Sequence[str]) -> bool:
    stamp = _stamp()
    return (
        os.access(PYTHON, os.X_OK)
        and {**_foundation(), **_requirements()}.items() <= stamp.items()
        and set(extras) <= set(stamp["extras"])
    )


def _foundation() -> dict[str, str]:
    """What an environment can't outlive: its place and, by its versioned name, its Python."""
    return {"root": str(ROOT), "python": os.path.realpath(PYTHON)}


def _requirements() -> dict[str, str]:
    return {"setup.py": hashlib.sha256((ROOT / "setup.py").read_bytes()).hexdigest()}


def _stamp() -> dict[str, Any]:
    """What the environment was made for; empty where it is unfinished or has no stamp."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


@contextlib.contextmanager
def _locked() -> Iterator[int]:
    """Hold the environment for this process and, through the descriptor, for its children."""
    VENV.mkdir(exist_ok=True)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is making .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _make(extras: Sequence[str], lock: int) -> None:
    stamp = _stamp()
    wanted = sorted({*extras, *stamp.get("extras", ())})
    reason = _reason_to_remake(stamp)
    if reason:
        _require_venv()
        say(f"making .venv ({reason}, about half a minute)")
        _write_stamp("unfinished")
        _make_empty(lock)
        _install(wanted, lock)
    else:
        say("bringing .venv up to date")
        with _as_before_on_failure():
            _write_stamp("unfinished")
            _install(wanted, lock)
    _write_stamp({**_foundation(), **_requirements(), "extras": wanted})


def _write_stamp(stamp: str | dict[str, Any]) -> None:
    STAMP.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _as_before_on_failure() -> Iterator[None]:
    """Keep the stamp where pip refuses: it undoes what it can't finish, so all is as before."""
    before = STAMP.read_bytes() if STAMP.exists() else None
    try:
        yield
    except Failure:
        if before is None:
            STAMP.unlink()
        else:
            STAMP.write_bytes(before)
        raise


def _reason_to_remake(stamp: dict[str, Any]) -> str | None:
    """Why what lies in ``.venv`` can't be built upon; None where it can."""
    if not os.path.lexists(PYTHON):
        return "first use"
    if not os.access(PYTHON, os.X_OK):
        return "its Python is gone"
    if stamp:
        moved = not _foundation().items() <= stamp.items()
        return "the checkout or its Python has moved" if moved else None
    return "the last one was left unfinished" if STAMP.exists() else None


def _require_venv() -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        package = "python{}.{}-venv".format(*sys.version_info)
        raise Failure(
            f"chatd needs Python's venv module, which {sys.executable} lacks; "
            f"on Debian and Ubuntu it comes with: apt-get install {package}"
        )


def _make_empty(lock: int) -> None:
    """Make an environment that has nothing but pip, in place of what is there."""
    base = os.path.realpath(sys.executable)  # this may be the .venv that is about to go
    for entry in VENV.iterdir():
        if entry not in (STAMP, LOCK):
            _remove(entry)
    made = subprocess.run(
        [base, "-I", "-m", "venv", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],
        text=True,
        errors="replace",
        check=False,
    )
    if made.returncode:
        raise Failure(f"chatd can't make {VENV}; Python's venv says:\n{_last(made.stdout)}")


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


# -- pip -------------------------------------------------------------------------------------


def _install(extras: Sequence[str], lock: int) -> None:
    """Install this checkout, editable, with what it and its extras need."""
    say("installing what chatd needs")
    target = f".[{','.join(extras)}]" if extras else "."
    options = ["--no-input", "--no-color", "--disable-pip-version-check", "--progress-bar=off"]
    with subprocess.Popen(
        [str(PYTHON), "-I", "-m", "pip", "install", *options, "--editable", target],
        cwd=ROOT,
        env={**os.environ, "PIP_USER": "0"},  # a user's own `user = true` is refused in a venv
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A pip that outlives this process keeps the next start waiting, not working beside it.
        pass_fds=[lock],
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        said = _follow(pip.stdout)
    if pip.returncode:
        raise Failure(f"chatd can't install what it needs; pip says:\n{_last(said)}")


def _follow(output: Iterable[str]) -> str:
    """Say every few seconds how far pip is; return the end of what it said."""
    said: deque[str] = deque(maxlen=200)
    packages = 0
    retrying = False
    told_at = time.monotonic()
    for line in output:
        said.append(line)
        if line.startswith("Collecting "):
            packages += 1
            if packages > 1 and time.monotonic() - told_at >= PROGRESS_SECONDS:
                say(f"installing what chatd needs … {packages} packages so far")
                told_at = time.monotonic()
        elif "Retrying (" in line and not retrying:
            retrying = True
            say("the package index does not answer; pip tries again")
        elif line.startswith("Installing collected packages"):
            say(f"packages to unpack: {line.count(',') + 1}")
    return "".join(said)


def _last(said: str) -> str:
    """The lines of an output that tell what went wrong: its last errors, or else its end."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return "\n".join(f"  {line}" for line in (errors or lines)[-5:])
