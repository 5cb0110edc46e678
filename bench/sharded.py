"""A chatd whose servers spread their news over another number of shards than chatd's own.

``python -m bench.sharded NUMBER ARGUMENTS…``: what follows the number, ``chatd`` takes.
"""

from __future__ import annotations

import sys

from chatd.cluster import shards


def spread_over(number: int) -> None:
    """To be called before anything else of `chatd.cluster` is imported: it takes a copy."""
    for name in ("SHARDS", "EVERYBODY"):
        setattr(shards, name, number)


def main(number: str, *arguments: str) -> None:
    spread_over(int(number))
    from chatd.cli import main as chatd  # noqa: PLC0415 - see above

    chatd(arguments, prog_name="chatd")


if __name__ == "__main__":
    main(*sys.argv[1:])
