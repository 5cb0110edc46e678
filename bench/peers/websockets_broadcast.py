"""A room with the library websockets: its ``broadcast()``, which its documentation commends."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.peers.room import READY, Room


async def main() -> None:
    """Serve on a free port, which is printed, until somebody ends it."""
    room = Room()
    everybody: set[ServerConnection] = set()

    async def handler(one: ServerConnection) -> None:
        everybody.add(one)
        try:
            await one.send(READY)
            async for frame in one:
                sent, copy = room.answers(frame)
                await one.send(sent)
                broadcast(everybody - {one}, copy)
        finally:
            everybody.discard(one)

    # Compressing is on by default here, and off in every server beside it.
    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
