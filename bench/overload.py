"""The line of overload: more than the server can take, with and without a limit on senders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from bench.curves import Curve, Panel, Picture, curve
from bench.load import Counted, Unmeasurable
from bench.measure import Contender, Goal, Outcome, Plan, sample
from bench.processes import highest_resident, resident_bytes
from bench.report import Figure, comparison, short
from bench.server import NO_LIMITS, SQLITE, Person, Site, pairs, port_of
from chatd.models import pair_conversation
from chatd.settings import Limits
from chatd.storage.base import Storage

PAIRS: Final = 50
PAIR_RATES: Final = (50, 100, 200, 300, 400, 600, 1000)
LIMITED_PAIR_RATES: Final = (50, 100, 200, 250, 300)
"""Messages per second of each pair. Who goes far beyond the limit is closed as a flood."""

BURST: Final = 200
LIMITED: Final = MappingProxyType(
    {"CHATD_LIMITS__CONNECTIONS_PER_ADDRESS": "0", "CHATD_LIMITS__SEND_BURST": str(BURST)}
)
"""The limit a second is the default's; its burst would let all of a run pass."""

LIMITED_WARM_UP: Final = 4.0
"""Seconds until all bursts are used up, and what they left is through."""

_MIB: Final = 2**20
SQLITE_CACHES: Final = (64 + 2 * 16) * _MIB
"""Of the connection that writes, and of the two that read."""
JOURNAL: Final = 8 * _MIB
"""May wait to be stored before sockets are read no further."""
READ: Final = 64 * 1024
"""May have been read of a socket by then."""

_PAGE: Final = 1000


class Case(NamedTuple):
    """Messages per second of each pair, and whether senders are ``limited``."""

    pair_rate: int
    limited: bool


class Flood(NamedTuple):
    """A run on a server of its own: what ``counted`` says, how many messages were in the store
    once the server had ended, and its resident memory in bytes, before and at most."""

    counted: Counted
    stored: int
    before: int
    highest: int

    @property
    def grown(self) -> int:
        return self.highest - self.before

    @property
    def kept(self) -> int:
        """How many more are stored than were ever acked; less than 0 where some are lost."""
        return self.stored - self.counted.acked

    def rate(self, count: int) -> float:
        return count / self.counted.seconds


Floods = Mapping[int, Sequence[Flood]]
"""By the messages offered a second."""

FIGURES: Final[Sequence[Figure[Flood]]] = (
    Figure("offered/s", lambda one: one.rate(one.counted.written)),
    Figure("stored/s", lambda one: one.rate(one.counted.sent)),
    Figure("refused/s", lambda one: one.rate(one.counted.errors)),
    Figure("p50 ms", lambda one: one.counted.p50_ms),
    Figure("p99 ms", lambda one: one.counted.p99_ms),
    Figure("unanswered", lambda one: one.counted.unanswered),
    Figure("MiB at most", lambda one: one.highest / _MIB),
    Figure("stored − acked", lambda one: one.kept),
)


def overload(plan: Plan) -> Outcome:
    """Each run has a server that is new: what memory it ever needed is that run's own."""
    count, runs = plan.size(PAIRS), max(1, plan.runs // 2)
    cases = [Case(rate, limited=False) for rate in plan.steps(PAIR_RATES)]
    cases += [Case(rate, limited=True) for rate in plan.steps(LIMITED_PAIR_RATES)]
    floods: dict[Case, list[Flood]] = {case: [] for case in sorted(cases)}
    for run in range(runs):
        for case, taken in floods.items():
            taken.extend(_flood(plan, case, run))
    free, limited = (
        {case.pair_rate * count: floods[case] for case in cases if case.limited is limited}
        for limited in (False, True)
    )
    per_second = Limits().send_per_second
    named = {"none": free, f"{per_second:g} a user": limited}
    shown = {
        name: {f"{rate:,}": taken for rate, taken in one.items()} for name, one in named.items()
    }
    return Outcome(
        f"Overload: {count} pairs, messages of 200 bytes at a fixed rate, SQLite, "
        f"{runs} runs, each of a new server",
        comparison(("send limit", "wanted/s"), shown, FIGURES, ""),
        _goals([one for taken in floods.values() for one in taken]),
        [_picture(free, limited, per_second)],
    )


def _flood(plan: Plan, case: Case, run: int) -> list[Flood]:
    """A run; none where a sender was closed as a flood."""
    kind = "limited" if case.limited else "free"
    site = Site(plan.folder / f"overload-{kind}-{case.pair_rate}-{run}", SQLITE)
    if not case.limited:
        return [_taken(site, plan, case, NO_LIMITS)]
    try:
        return [_taken(site, plan.at_least(0, LIMITED_WARM_UP), case, LIMITED)]
    except Unmeasurable:
        # The generator has said who was closed, and why.
        return []


def _taken(site: Site, plan: Plan, case: Case, limits: Mapping[str, str]) -> Flood:
    count = plan.size(PAIRS)
    people = site.people(2 * count)
    with site.serving(limits) as server:
        pid, clients = server.process.pid, pairs(people)
        contender = Contender("chatd", pid, port_of(server), clients, limited=case.limited)
        before = resident_bytes(pid)
        with highest_resident(pid) as highest:
            counted = sample(contender, plan, rate=case.pair_rate * count).counted
            most = highest()
    return Flood(counted, stored_between(site, people), before, most)


def stored_between(site: Site, people: Sequence[Person]) -> int:
    """How many messages there are between the pairs, each of them read."""
    found = 0

    async def count(storage: Storage) -> None:
        nonlocal found
        for one, other in zip(people[::2], people[1::2], strict=True):
            conversation = pair_conversation(one.email, other.email)
            seq = 0
            while page := await storage.history(conversation, after_seq=seq, limit=_PAGE):
                found += len(page)
                seq = page[-1].seq

    site.store(count)
    return found


def _goals(floods: Sequence[Flood]) -> list[Goal]:
    least = min(one.kept for one in floods)
    grown = max(one.grown for one in floods) / _MIB
    allowed = (SQLITE_CACHES + JOURNAL + 2 * PAIRS * (Limits().outbox_bytes + READ)) / _MIB
    return [
        Goal(
            line="overload",
            what="nothing acked is lost: stored − acked, the least of all runs",
            wanted="≥ 0",
            got=f"{least:,}",
            met=least >= 0,
        ),
        Goal(
            line="overload",
            what="memory is bounded: the most that it grew by",
            wanted=f"≤ {short(allowed)} MiB, what the settings allow",
            got=f"{short(grown)} MiB",
            met=grown <= allowed,
        ),
    ]


def _picture(free: Floods, limited: Floods, per_second: float) -> Picture:
    cases = {"no limit": free, f"{per_second:g}/s a user": limited}

    def curves(what: str, of: Callable[[Flood], float], *, dashed: bool = False) -> list[Curve]:
        return [
            curve(f"{what}{case}", floods, floods.values(), of, hue=hue, dashed=dashed)
            for hue, (case, floods) in enumerate(cases.items())
        ]

    offered = "messages offered per second"
    return Picture(
        "overload",
        [
            Panel(
                "What is taken",
                offered,
                "messages per second",
                [
                    *curves("stored, ", lambda one: one.rate(one.counted.sent)),
                    *curves("refused, ", lambda one: one.rate(one.counted.errors), dashed=True)[1:],
                ],
            ),
            Panel(
                "How late it is there",
                offered,
                "ms, written → delivered",
                [
                    *curves("p50, ", lambda one: one.counted.p50_ms),
                    *curves("p99, ", lambda one: one.counted.p99_ms, dashed=True),
                ],
                log_y=True,
            ),
            Panel(
                "The server's memory",
                offered,
                "MiB resident, at most",
                curves("", lambda one: one.highest / _MIB),
            ),
        ],
    )
