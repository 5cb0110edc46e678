"""What is to be sent goes in order, not too much at once, and again until it is answered."""

from __future__ import annotations

from chatd.client.outbox import Outbox


def outbox(*client_ids: str, window: int = 3) -> Outbox:
    made = Outbox(window)
    for client_id in client_ids:
        made.add(client_id, client_id.encode())
    return made


def test_a_window_s_worth_is_on_its_way_at_most() -> None:
    box = outbox("a", "b", "c", "d", "e")
    assert box.due(0) == [b"a", b"b", b"c"]
    assert box.due(0) == []
    assert box.wait(0) is None
    box.stored("b")
    assert box.due(0) == [b"d"]


def test_what_is_unanswered_goes_again_in_its_old_order() -> None:
    box = outbox("a", "b", "c", "d")
    box.due(0)
    box.stored("b")
    box.due(0)
    box.disconnected()
    assert box.due(0) == [b"a", b"c", b"d"]


def test_what_nobody_waits_for_any_more_does_not_go() -> None:
    box = outbox("a", "b", "c")
    box.remove("b")
    assert box.due(0) == [b"a", b"c"]
    box.remove("a")
    box.disconnected()
    assert box.due(0) == [b"c"]
    assert len(box) == 1


def test_a_refusal_for_now_holds_everything_back_and_then_goes_one_by_one() -> None:
    box = outbox("a", "b", "c", "d")
    box.due(0)
    box.postpone("b", 10)
    box.postpone("c", 12)
    box.stored("a")
    assert box.due(11) == []
    assert box.wait(11) == 1
    assert box.due(12) == [b"b"]
    box.stored("b")
    assert box.due(12) == [b"c"]
    box.postpone("c", 13)
    assert box.due(13) == [b"c"]


def test_after_a_window_s_worth_of_successes_all_is_as_before() -> None:
    box = outbox(*"abcdefgh")
    box.due(0)
    box.postpone("a", 1)
    box.stored("b")
    box.stored("c")
    assert box.due(1) == [b"a"]
    box.stored("a")
    assert box.due(1) == [b"d", b"e", b"f"]


def test_a_refusal_of_what_is_not_known_any_more_changes_nothing() -> None:
    box = outbox("a")
    box.due(0)
    box.remove("a")
    box.postpone("a", 10)
    box.add("b", b"b")
    assert box.due(0) == [b"b"]
