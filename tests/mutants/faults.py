"""The faults that the tests of the promises find, in the promises' order."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

# Messages are told of 50 ms before they are committed; a kill has to fall between the two.
_EARLY: Final = (
    "if isinstance(results[0], list):\n"
    "    jobs[0].future.get_loop().call_soon_threadsafe(_resolve, jobs, results)\n"
    '    __import__("time").sleep(0.05)'
)

FAULTS: Final = (
    # -- G1, G2: what is sent is never lost, what is delivered is stored -----------------------
    Mutant(
        "sqlite-does-not-wait-for-the-disk",
        "storage/sqlite/schema.py",
        'db.execute("PRAGMA synchronous = FULL")',
        'db.execute("PRAGMA synchronous = NORMAL")',
        "tests/e2e/faults/test_kill.py::test_power_cuts_at_random_instants",
        "acked, not stored",
    ),
    Mutant(
        "sqlite-acks-before-the-commit",
        "storage/sqlite/writer.py",
        'self._db.execute("COMMIT")',
        f'{_EARLY}\nself._db.execute("COMMIT")',
        "tests/e2e/faults/test_kill.py::test_kills_at_random_instants[sqlite]",
        "acked, not stored",
    ),
    Mutant(
        "sqlite-delivers-before-the-sync",
        "storage/sqlite/writer.py",
        'self._db.execute("COMMIT")',
        f'{_EARLY}\nself._db.execute("COMMIT")',
        "tests/e2e/faults/test_kill.py::test_power_cuts_at_every_kth_call_that_writes[fdatasync]",
        "delivered, not stored",
    ),
    Mutant(
        "mongo-does-not-wait-for-the-majority",
        "storage/mongo/append.py",
        "await db.messages.insert_many([message_document(message) for message in messages])",
        "hasty = db.messages.with_options(write_concern=type(db.write_concern)(1))\n"
        "await hasty.insert_many([message_document(message) for message in messages])",
        "tests/e2e/faults/test_failover.py::test_a_lost_primary_loses_and_doubles_nothing[patient]",
        "acked, not stored",
    ),
    # -- G3: a repeated send is one message, for ever -----------------------------------------
    Mutant(
        "another-text-passes-for-a-repeat",
        "storage/repeats.py",
        "draft.text == first.text",
        "True",
        "tests/storage/test_contract_messages.py::"
        "test_a_client_id_with_another_text_or_target_is_a_conflict[memory-other0]",
        "== [ClientIdConflict()]",
    ),
    Mutant(
        "sqlite-sees-no-repeat-within-a-batch",
        "storage/sqlite/append.py",
        "earlier.add(message)",
        "pass",
        "tests/e2e/faults/test_repeats.py::"
        "test_ten_at_once_on_one_socket_are_one_message[sqlite-group]",
        "assert 'error' == 'sent'",
    ),
    Mutant(
        "memory-keeps-no-client-id",
        "storage/memory.py",
        "self._by_client_id[message.sender, message.client_id] = (log, message.seq)",
        "pass",
        "tests/e2e/faults/test_repeats.py::"
        "test_ten_at_once_on_one_socket_are_one_message[memory-group]",
        "assert 10 == 1",
    ),
    Mutant(
        "another-target-passes-for-a-repeat",
        "storage/repeats.py",
        "and draft.conversation == first.conversation",
        "and True",
        "tests/e2e/faults/test_repeats.py::"
        "test_over_two_connections_and_rest_at_once_they_are_one_message[memory-group]",
        "== ('error', 'client_id_reused')",
    ),
    Mutant(
        "a-repeat-goes-out-to-everybody-again",
        "router.py",
        "if isinstance(outcome, Stored):",
        'if hasattr(outcome, "message") and not isinstance(outcome, Stored):\n'
        "    from chatd.frames import message_frame\n"
        "    for one in self._fan_out._registry.carrying(conversation):\n"
        "        one.write(encode(message_frame(outcome.message)))\n"
        "if isinstance(outcome, Stored):",
        "tests/e2e/faults/test_repeats.py::"
        "test_over_two_connections_and_rest_at_once_they_are_one_message[memory-group]",
        "assert 30 <= 1",
    ),
    Mutant(
        "sqlite-knows-client-ids-by-heart-only",
        "storage/sqlite/append.py",
        "earlier = Earlier(_repeated(db, batch))",
        'earlier = conversations.__dict__.setdefault("earlier", Earlier())',
        "tests/e2e/faults/test_repeats.py::test_repeats_over_kills_and_restarts[sqlite]",
        "assert 'error' == 'sent'",
    ),
    Mutant(
        "mongo-takes-a-client-id-twice",
        "storage/mongo/collections.py",
        "unique=not sharded,",
        "unique=False,",
        "tests/e2e/faults/test_repeats.py::test_repeats_over_kills_and_restarts[mongo]",
        "AssertionError",
    ),
    Mutant(
        "memory-does-not-say-what-it-is",
        "storage/memory.py",
        'return "Everything is kept in this process\'s memory only, and ends with the process."',
        'return "Everything is kept."',
        "tests/e2e/faults/test_repeats.py::test_memory_says_that_this_ends_with_the_process",
        "assert 'ends with the process' in",
    ),
    # -- G4: every device gets every message, no hole goes unannounced -------------------------
    Mutant(
        "a-replay-starts-one-message-later",
        "replay.py",
        "return position.delivered_seq",
        "return position.delivered_seq + 1",
        "tests/e2e/faults/test_cuts.py::test_cuts_at_random_bytes[memory]",
        "missing: ",
    ),
    Mutant(
        "a-replay-says-nothing-of-its-gap",
        "replay.py",
        "connection.write(encode(gap_frame(conversation, connection.user, first, last)))",
        "pass",
        "tests/e2e/faults/test_cuts.py::test_cuts_at_random_bytes[memory]",
        "missing: ",
    ),
    Mutant(
        "a-mark-moves-over-a-gap",
        "storage/moves.py",
        "if mark.seq <= stands or stands < mark.since - 1:",
        "if mark.seq <= stands:",
        "tests/handlers/test_socket_replay.py::"
        "test_what_is_not_replayed_is_announced_and_not_called_delivered[memory]",
        "At index 3 diff: True != False",
    ),
    Mutant(
        "what-was-swallowed-counts-as-delivered",
        "connection.py",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF\n"
        "self._flusher.on_confirmed(self, self._in_flight)\n"
        "self._in_flight = []",
        "tests/e2e/faults/test_cuts.py::test_nothing_passes_for_a_while[memory-swallowed]",
        "receipt that was not true: ",
    ),
    # -- G5: one order per conversation -------------------------------------------------------
    Mutant(
        "a-sender-is-acked-before-it-has-what-was-written-before",
        "fanout.py",
        "gathered.deliver_to(origin)",
        "pass",
        "tests/e2e/faults/test_order.py::"
        "test_everybody_has_what_many_write_at_once_in_one_order[memory]",
        "repeat or inversion",
    ),
    Mutant(
        "two-servers-may-take-one-number",
        "storage/mongo/collections.py",
        '_index(MESSAGES_BY_SEQ, "conversation", "seq", unique=True),',
        '_index(MESSAGES_BY_SEQ, "conversation", "seq"),',
        "tests/e2e/faults/test_order.py::test_two_servers_on_one_database_make_one_order",
        "hole in storage",
    ),
    Mutant(
        "mongo-stores-what-stands-behind-a-refused-message",
        "storage/mongo/append.py",
        "await db.messages.insert_many([message_document(message) for message in messages])",
        "await db.messages.insert_many(map(message_document, messages), ordered=False)",
        "tests/e2e/faults/test_order.py::test_two_servers_on_one_database_make_one_order",
        "assert 503 == 201",
    ),
    # -- G6: `delivered` is true and permanent ------------------------------------------------
    Mutant(
        "a-ping-is-a-receipt",
        "connection.py",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF\n"
        "self._flusher.on_confirmed(self, self._in_flight)\n"
        "self._in_flight = []",
        "tests/e2e/faults/test_receipts.py::test_a_frozen_recipient_is_no_receipt[memory-in-time]",
        "assert 4 == 3",
    ),
    Mutant(
        "a-ping-is-a-receipt-though-the-pong-is-stalled",
        "connection.py",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF",
        "self._ping_number = (self._ping_number + 1) & 0xFFFF\n"
        "self._flusher.on_confirmed(self, self._in_flight)\n"
        "self._in_flight = []",
        "tests/e2e/faults/test_receipts.py::"
        "test_messages_without_a_pong_are_no_receipt[memory-late]",
        "assert 4 == 3",
    ),
    Mutant(
        "sqlite-stores-no-mark",
        "storage/sqlite/marks.py",
        "_store_places(db, moves, written)",
        "pass",
        "tests/e2e/faults/test_receipts.py::test_a_frozen_recipient_is_no_receipt[sqlite-in-time]",
        "At index 0 diff: 1 != ",
    ),
    Mutant(
        "sqlite-stores-no-time-of-delivery",
        "storage/sqlite/marks.py",
        "_store_receipts(db, kind, moves)",
        "pass",
        "tests/e2e/faults/test_receipts.py::test_a_frozen_recipient_is_no_receipt[sqlite-in-time]",
        "assert set() == {1, 2, 3}",
    ),
    Mutant(
        "sqlite-delivers-what-was-delivered",
        "storage/sqlite/marks.py",
        "AND messages.seq > covered.old AND messages.seq <= covered.seq",
        "AND messages.seq <= covered.seq",
        "tests/e2e/faults/test_receipts.py::test_what_was_told_outlives_kills[sqlite]",
        "Extra items in the left set",
    ),
    Mutant(
        "a-receipt-is-told-before-it-is-stored",
        "receipts.py",
        "advances = await self._storage.advance(marks)",
        "advances = [\n"
        "    Advance(m.conversation, m.user, m.kind, 0, m.seq, m.at, {'ann@example.org'})\n"
        "    for m in marks\n"
        "]\n"
        "asyncio.get_running_loop().create_task(self._storage.advance(marks))",
        "tests/e2e/faults/test_receipts.py::test_what_was_told_outlives_kills[sqlite]",
        "told, not stored: ",
    ),
    Mutant(
        "a-receipt-is-told-before-it-is-synced",
        "receipts.py",
        "advances = await self._storage.advance(marks)",
        "advances = [\n"
        "    Advance(m.conversation, m.user, m.kind, 0, m.seq, m.at, {'ann@example.org'})\n"
        "    for m in marks\n"
        "]\n"
        "asyncio.get_running_loop().create_task(self._storage.advance(marks))",
        "tests/e2e/faults/test_receipts.py::test_what_was_told_outlives_power_cuts",
        "told, not stored: ",
    ),
    # -- G7: a slow consumer costs little, and nobody else ------------------------------------
    Mutant(
        "what-waits-for-a-connection-has-no-limit",
        "connection.py",
        "if self.waiting > self._flusher.outbox_limit:",
        "if False:",
        "tests/e2e/faults/test_slow.py::test_clients_that_never_read",
        "MB more",
    ),
    Mutant(
        "a-slow-consumer-is-told-another-code",
        "connection.py",
        'self.end(CloseCode.SLOW_CONSUMER, "slow consumer", reconnect=True)',
        'self.end(CloseCode.TIMEOUT, "slow consumer", reconnect=True)',
        "tests/e2e/faults/test_slow.py::test_clients_that_never_read",
        "Counter({4408: 8})",
    ),
    # -- G8: a dead peer is found -------------------------------------------------------------
    Mutant(
        "a-pong-may-take-for-ever",
        "connection.py",
        "elif silent >= pong_seconds:",
        "elif False:",
        "tests/e2e/faults/test_dead_peer.py::test_a_frozen_client_is_let_go_and_comes_back",
        "TimeoutError",
    ),
    Mutant(
        "a-dead-peer-is-waited-for",
        "connection.py",
        "self._transport.drop()",
        "pass",
        "tests/e2e/faults/test_dead_peer.py::test_a_dead_peer_is_let_go[to the client]",
        "assert not (",
    ),
    Mutant(
        "a-frozen-server-blames-its-peers",
        "keepalive.py",
        "return passed if passed > 2 * self.interval else 0.0",
        "return 0.0",
        "tests/e2e/faults/test_dead_peer.py::test_a_frozen_server_blames_nobody",
        "assert [1, 2, 2",
    ),
    Mutant(
        "a-gap-is-told-behind-the-ack",
        "fanout.py",
        "origin.leave_out(conversation, missed, seq)",
        "pass",
        "tests/e2e/faults/test_order.py::test_two_servers_on_one_database_make_one_order",
        "repeat or inversion",
    ),
    # -- G9: storage out ----------------------------------------------------------------------
    Mutant(
        "sqlite-takes-a-failed-commit-for-a-good-one",
        "storage/sqlite/writer.py",
        'self._db.execute("COMMIT")',
        'with contextlib.suppress(sqlite3.Error): self._db.execute("COMMIT")',
        "tests/e2e/faults/test_disk.py::"
        "test_every_kth_call_that_fails_is_told_of_and_costs_nothing_else[fdatasync]",
        "acked, not stored",
    ),
    Mutant(
        "sqlite-hardly-notices-a-broken-disk",
        "storage/sqlite/schema.py",
        'db.execute("PRAGMA synchronous = FULL")',
        'db.execute("PRAGMA synchronous = NORMAL")',
        "tests/e2e/faults/test_disk.py::"
        "test_what_a_broken_disk_did_not_take_was_not_acked[fdatasync]",
        "acked, not stored",
    ),
    Mutant(
        "sqlite-copies-its-log-within-the-commit",
        "storage/sqlite/writer.py",
        'self._db.execute("COMMIT")',
        'self._db.execute("COMMIT"); self._db.execute("PRAGMA wal_checkpoint")',
        "tests/e2e/faults/test_disk.py::"
        "test_a_log_that_cannot_be_copied_into_the_file_is_kept_and_nobody_hears_of_it",
        "assert not {'unavailable'}",
    ),
    Mutant(
        "sqlite-has-no-word-for-a-file-that-cannot-be-opened",
        "storage/sqlite/database.py",
        'raise StorageRefused(f"{path} can\'t be opened: {error}.") from error',
        "raise",
        "tests/e2e/faults/test_disk.py::"
        "test_a_server_that_has_no_room_to_start_says_so_and_starts_when_there_is[ended]",
        "too many values to unpack",
    ),
    Mutant(
        "receipts-that-cannot-be-stored-are-forgotten",
        "receipts.py",
        "for mark in [*marks, *later.values()]:",
        "for mark in later.values():",
        "tests/e2e/faults/test_disk.py::"
        "test_what_clients_confirm_while_the_disk_is_full_is_stored_and_told_later",
        "TimeoutError",
    ),
    Mutant(
        "an-outage-is-told-of-with-every-batch",
        "journal.py",
        "if now < self._outage_said_until:",
        "if False:",
        "tests/e2e/faults/test_disk.py::"
        "test_a_full_disk_refuses_what_it_cannot_keep_and_is_over_when_there_is_room",
        " tracebacks in ",
    ),
    Mutant(
        "mongo-is-not-waited-for",
        "storage/mongo/append.py",
        "await db.messages.insert_many([message_document(message) for message in messages])",
        "unasked = db.messages.with_options(write_concern=type(db.write_concern)(0))\n"
        "await unasked.insert_many([message_document(message) for message in messages])",
        "tests/e2e/faults/test_outage.py::test_an_outage_is_refused_and_over_when_it_is_over",
        "acked, not stored",
    ),
    # -- G10: SIGTERM drains ------------------------------------------------------------------
    Mutant(
        "no-good-bye-to-who-has-not-said-who-it-is",
        "app.py",
        "for socket in sockets:",
        "for socket in [one for one in sockets if one.connection]:",
        "tests/e2e/faults/test_drain.py::test_everybody_hears_good_bye_and_nothing_is_lost[sqlite]",
        "'1006 behind {}' != 'good-bye'",
    ),
    Mutant(
        "sockets-are-let-in-while-draining",
        "handlers/services.py",
        "if self.draining or not self.ready:",
        "if not self.ready:",
        "tests/e2e/faults/test_drain.py::test_everybody_hears_good_bye_and_nothing_is_lost[sqlite]",
        "IncompleteReadError",
        or_says="assert '101' == '503'",
    ),
    Mutant(
        "the-first-signal-is-ignored",
        "process.py",
        "arrived.set()",
        "pass",
        "tests/e2e/faults/test_drain.py::test_a_sigterm_while_it_starts_ends_it_and_loses_nothing",
        "subprocess.TimeoutExpired",
    ),
    Mutant(
        "the-second-signal-is-ignored",
        "process.py",
        "signal.signal(number, signal.SIG_DFL)",
        "signal.signal(number, signal.SIG_IGN)",
        "tests/e2e/faults/test_drain.py::"
        "test_a_second_sigterm_ends_at_once_and_loses_nothing[sqlite]",
        "assert 0 == -<Signals.SIGTERM: 15>",
    ),
    Mutant(
        "signals-are-heard-once-the-storage-is-open",
        "process.py",
        "await _either(signalled.wait(), app.opened())",
        "await app.opened()",
        "tests/e2e/faults/test_drain.py::test_a_sigterm_ends_a_server_that_waits_for_its_storage",
        "subprocess.TimeoutExpired",
    ),
    Mutant(
        "a-drain-does-not-wait-for-requests",
        "app.py",
        "await self._within(left, self.services.requests.answered())",
        "pass",
        "tests/e2e/faults/test_drain.py::test_requests_under_way_are_answered[sqlite]",
        "IndexError",
    ),
    Mutant(
        "requests-are-taken-while-draining",
        "handlers/api.py",
        "if not spec.while_draining:",
        "if False:",
        "tests/e2e/faults/test_drain.py::test_requests_under_way_are_answered[sqlite]",
        "'refused' != '503'",
    ),
    # -- G11: sign-in never stalls chat -------------------------------------------------------
    Mutant(
        "passwords-are-hashed-on-the-loop",
        "security.py",
        "return await asyncio.get_running_loop().run_in_executor(self._thread, work)",
        "return work()",
        "tests/e2e/faults/test_storms.py::test_sign_ins_at_once_do_not_stall_the_talk",
        "= part(0.5)",
    ),
    Mutant(
        "a-hundred-passwords-are-hashed-at-once",
        "security.py",
        'max_workers=1, thread_name_prefix="passwords", initializer=_step_back',
        'max_workers=100, thread_name_prefix="passwords", initializer=_step_back',
        "tests/e2e/faults/test_storms.py::"
        "test_more_sign_ins_than_can_wait_are_told_when_to_try_again",
        "< (5 * 19922944)",
    ),
    Mutant(
        "any-number-of-sign-ins-waits",
        "security.py",
        "if self._pending > self._queue_limit:",
        "if False:",
        "tests/e2e/faults/test_storms.py::"
        "test_more_sign_ins_than_can_wait_are_told_when_to_try_again",
        "E     503",
    ),
    Mutant(
        "any-number-of-sign-ins-from-one-address",
        "accounts.py",
        '_charge(self._sign_ins, place, "too many sign-ins from this network address")',
        "pass",
        "tests/e2e/faults/test_storms.py::"
        "test_more_sign_ins_than_can_wait_are_told_when_to_try_again",
        "E     429",
    ),
    # -- many who come back at once (G4, G11) -------------------------------------------------
    Mutant(
        "a-replay-begins-one-message-later",
        "replay.py",
        "conversation, count, reached = position.conversation, 0, start",
        "conversation, count, reached = position.conversation, 0, start + 1",
        "tests/e2e/faults/test_storms.py::test_everybody_comes_back_at_once[cut]",
        "TimeoutError",
    ),
    Mutant(
        "connections-are-never-forgotten",
        "handlers/socket.py",
        "self.services.registry.remove(self.connection)",
        "pass",
        "tests/e2e/faults/test_storms.py::test_everybody_comes_back_at_once[cut]",
        "TimeoutError",
    ),
    # -- G12: clock steps do no harm ----------------------------------------------------------
    Mutant(
        "the-loop-goes-by-the-wall-clock",
        "process.py",
        "app = App(origins.load())",
        'asyncio.get_running_loop().time = __import__("time").time; app = App(origins.load())',
        "tests/e2e/faults/test_clock.py::test_steps_while_many_are_connected[1800]",
        "TimeoutError",
    ),
    Mutant(
        "tokens-live-by-the-wall-clock",
        "process.py",
        "app = App(origins.load())",
        'asyncio.get_running_loop().time = __import__("time").time; app = App(origins.load())',
        "tests/e2e/faults/test_clock.py::test_a_token_ends_after_its_time_all_the_same",
        "TimeoutError",
    ),
    Mutant(
        "guesses-are-counted-by-the-wall-clock",
        "accounts.py",
        "wait = bucket.take(key, asyncio.get_running_loop().time())",
        "wait = bucket.take(key, now_ms() / 1000)",
        "tests/e2e/faults/test_clock.py::test_limits_outlast_steps",
        "assert 401 == 429",
    ),
    Mutant(
        "no-leeway-for-another-clock",
        "security.py",
        "leeway=LEEWAY_SECONDS,",
        "leeway=0,",
        "tests/e2e/faults/test_clock.py::"
        "test_a_token_of_a_clock_that_is_a_little_ahead_is_good[-50-200]",
        "assert 401 == 200",
    ),
    Mutant(
        "ten-minutes-for-another-clock",
        "security.py",
        "LEEWAY_SECONDS: Final = 60",
        "LEEWAY_SECONDS: Final = 600",
        "tests/e2e/faults/test_clock.py::"
        "test_a_token_of_a_clock_that_is_a_little_ahead_is_good[-120-401]",
        "assert 200 == 401",
    ),
    Mutant(
        "a-revoked-token-is-forgotten-by-the-clock",
        "accounts.py",
        "since = now_ms() - _CLOCK_AHEAD_MS",
        "since = now_ms()",
        "tests/e2e/faults/test_clock.py::test_who_signed_out_stays_out[sqlite]",
        "assert 200 == 401",
    ),
    # -- a stop, behind a proxy (G10) ----------------------------------------------------------
    Mutant(
        "what-is-acked-while-draining-is-not-stored",
        "storage/sqlite/writer.py",
        'self._db.execute("COMMIT")',
        'self._db.execute("ROLLBACK" if __import__("signal").getsignal(15) == 0 else "COMMIT")',
        "tests/e2e/deploy/test_proxies.py::"
        "test_a_restart_of_chatd_behind_the_proxy_loses_no_message[nginx]",
        "Extra items in the left set",
    ),
    # -- the client for programs (G3, G4) -----------------------------------------------------
    Mutant(
        "a-client-fetches-no-gap",
        "client/inbox.py",
        "self._items.append(hole)",
        "pass",
        "tests/e2e/test_client.py::test_a_gap_beyond_what_is_replayed_is_fetched_in_its_place",
        "TimeoutError",
    ),
)
