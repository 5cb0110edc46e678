"""The faults that the tests of several servers find, in the order of what those promise."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_TALK: Final = "tests/e2e/cluster/test_talk.py::"
_PEOPLE: Final = "tests/e2e/cluster/test_people.py::"
_SERVERS: Final = "tests/e2e/cluster/test_servers.py::"
_ACCESS: Final = "tests/e2e/cluster/test_access.py::"
_WAITED: Final = "assert time.monotonic() < ends_at"

CLUSTER: Final = (
    # -- order and completeness ----------------------------------------------------------------
    Mutant(
        "messages-of-servers-are-told-as-they-come",
        "cluster/sequencer.py",
        "return seq <= head + 1",
        "return True",
        _TALK + "test_what_is_lost_on_the_way_is_found_in_the_store[3]",
        "one.log.of(Gap)",
    ),
    Mutant(
        "lost-packets-are-not-missed",
        "cluster/cluster.py",
        "self._healer.lost(shards)",
        "pass",
        _TALK + "test_what_is_lost_on_the_way_is_found_in_the_store[1]",
        "missing:",
    ),
    Mutant(
        "nobody-looks-while-nats-is-out",
        "cluster/cluster.py",
        "seconds = await chore.do_now()",
        "seconds = 0.0",
        _TALK + "test_nats_out_for_long[1]",
        "TimeoutError",
    ),
    Mutant(
        "servers-that-are-cut-off-are-forgotten",
        "cluster/cluster.py",
        "while self.out() or not self._peers.complete():",
        "while self.out():",
        _TALK + "test_nats_out_for_long[1]",
        "TimeoutError",
    ),
    Mutant(
        "nats-is-gone-to-once",
        "cluster/bus.py",
        "await self._serve(client)",
        "await self._serve(client)\nawait asyncio.Event().wait()",
        _TALK + "test_nats_frozen_and_killed",
        "TimeoutError",
    ),
    # -- receipts, presence --------------------------------------------------------------------
    Mutant(
        "receipts-are-told-as-they-come",
        "cluster/told.py",
        "if advance.seq <= self._told.get(key, 0):",
        "if False:",
        _SERVERS + "test_one_after_the_other_starts_again",
        "receipt goes back",
    ),
    Mutant(
        "dead-servers-are-not-missed",
        "cluster/peers.py",
        "_GONE_SECONDS: Final = 8.0",
        "_GONE_SECONDS: Final = 1e9",
        _SERVERS + "test_a_killed_server",
        "TimeoutError",
        "missing:",
    ),
    # -- memberships, tokens -------------------------------------------------------------------
    Mutant(
        "memberships-are-not-compared",
        "cluster/healing.py",
        "await self._each(self._memberships, list(self._registry.online_users()))",
        "pass",
        _PEOPLE + "test_joins_and_leaves[lost]",
        "TimeoutError",
    ),
    Mutant(
        "deleted-groups-are-not-missed",
        "cluster/healing.py",
        "await self._each(self._memberships, list(self._registry.online_users()))",
        "pass",
        _PEOPLE + "test_a_group_that_is_deleted[lost]",
        "TimeoutError",
    ),
    Mutant(
        "sessions-are-not-compared",
        "cluster/healing.py",
        "await self._accounts.catch_up(self._living)",
        "pass",
        _PEOPLE + "test_tokens_that_are_good_no_more[lost-sign_out]",
        "TimeoutError",
    ),
    # -- which servers belong together ---------------------------------------------------------
    Mutant(
        "keys-are-not-compared",
        "cluster/cluster.py",
        "if not set(keys[:1]) <= set(self._fingerprints()):",
        "if False:",
        _ACCESS + "test_servers_with_other_keys_say_so",
        _WAITED,
    ),
    Mutant(
        "clocks-are-not-compared",
        "cluster/peers.py",
        "if abs(seconds) > _CLOCK_SECONDS and not peer.clock_told:",
        "if False:",
        "tests/e2e/cluster/test_clock.py::test_a_clock_an_hour_ahead",
        "TimeoutError",
    ),
    Mutant(
        "all-stores-share-their-subjects",
        "cluster/cluster.py",
        'self._bus = Bus(self._access, f"chatd.{epoch}", self._heard, self)',
        'self._bus = Bus(self._access, "chatd", self._heard, self)',
        _ACCESS + "test_servers_of_another_database_hear_nothing",
        "== [1, 1, 0]",
    ),
    Mutant(
        "no-password-for-nats",
        "cluster/bus.py",
        '"password": self.password,',
        '"password": None,',
        _ACCESS + "test_who_is_let_in[by_password]",
        _WAITED,
    ),
    Mutant(
        "nats-may-leave-tls-out",
        "cluster/bus.py",
        'if "tls" in self.options and not self._server_info.get("tls_required"):',
        "if False:",
        _ACCESS + "test_a_nats_without_tls_is_not_told_the_password",
        'assert "TLS" in',
    ),
    Mutant(
        "any-nats-will-do",
        "deployment.py",
        "if not all(map(_is_loopback, hosts)):",
        "if False:",
        _ACCESS + "test_an_open_nats_elsewhere_is_refused[False]",
        "TimeoutExpired",
    ),
)
