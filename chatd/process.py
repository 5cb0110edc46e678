"""The process that serves: from its start to the signal that ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from chatd.app import App
from chatd.logs import capture_library_logs
from chatd.settings import Origins
from chatd.storage.base import Storage


async def serve(origins: Origins, announce: Callable[[str, Storage], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    On SIGHUP the settings are read again. ``announce`` is told the address once connections are
    accepted.
    """
    app = App(origins.load())
    reloader = app.building.reloader(origins)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.reload)
    release_logs = capture_library_logs(app.log)
    try:
        url = await app.start()
        signalled = _signalled()
        announce(url, app.storage)
        _collect_less_often()
        await _either(signalled.wait(), app.opened())
        await signalled.wait()
        await app.drain()
    finally:
        await app.stop()
        release_logs()


def _collect_less_often() -> None:
    """Look for circles of garbage where much has come since the last time, not every 700 objects.

    What exists by now lives as long as the process, and what comes is freed without a circle,
    connections too. So there is little to find; but looking through 10,000 objects takes 5 ms.
    """
    gc.freeze()
    gc.set_threshold(10_000, 50, 10)


async def _either(*awaited: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them does, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in awaited]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for one in others:
        one.cancel()
    for one in done:
        one.result()


def _signalled() -> asyncio.Event:
    """An event that is set by the first signal to end; the next one ends the process at once."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def first() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        arrived.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return arrived
