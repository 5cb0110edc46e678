"""A process for tests to kill: appends to a SQLite store and prints each message once it is acked.

``python -m tests.storage.appender FILE``; each line is an id, a conversation and a seq.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from chatd.storage.sqlite import SqliteStorage
from tests.storage.samples import ANN_AND_BOB, ANN_HERSELF, CLUB, draft, stored


async def append_for_ever(path: Path) -> None:
    storage = SqliteStorage(path)
    await storage.start()

    async def write() -> None:
        while True:
            conversations = random.choices((ANN_AND_BOB, ANN_HERSELF, CLUB), k=random.randint(1, 9))
            outcomes = await storage.append([draft(one, text="x" * 200) for one in conversations])
            for message in map(stored, outcomes):
                sys.stdout.write(f"{message.id} {message.seq} {message.conversation}\n")
            sys.stdout.flush()

    await asyncio.gather(*(write() for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(append_for_ever(Path(sys.argv[1])))
