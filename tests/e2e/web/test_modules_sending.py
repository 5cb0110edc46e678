"""How the client keeps what it has to send, waits, and renews its token."""

from __future__ import annotations

import base64
import json
from typing import Final

import pytest

from tests.e2e.web.modules import BOB, Modules

pytestmark = pytest.mark.browser

# -- outbox ------------------------------------------------------------------------------------

OUTBOX: Final = """
class Kept {
  values = new Map();
  get(name) { return JSON.parse(this.values.get(name) ?? "null"); }
  put(name, value) { this.values.set(name, JSON.stringify(value)); }
  remove(name) { this.values.delete(name); }
  names() { return [...this.values.keys()]; }
  clear() { this.values.clear(); }
}
const kept = new Kept();
const line = { up: true, sent: [], heard: null };
const send = (frame) => {
  if (!line.up) return false;
  line.sent.push(frame);
  line.heard?.();
  return true;
};
const bob = { user: "bob@example.org" }, club = { group: "club" };
const box = new outbox.Outbox(kept, send);
const texts = () => line.sent.map((frame) => frame.text);
const id = (text) => line.sent.findLast((frame) => frame.text === text).client_id;
"""


def test_one_message_is_under_way_at_a_time_in_the_order_of_writing(modules: Modules) -> None:
    frames, waiting = modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(club, "two"); box.add(bob, "three");
        const waiting = [texts(), box.size, box.of("user:bob@example.org").map((one) => one.text)];
        box.stored(id("one")); waiting.push(texts());
        box.stored(id("two")); box.stored(id("three"));
        waiting.push(box.size, kept.names());
        return [line.sent, waiting];
        """
    )
    assert waiting == [["one"], 3, ["one", "three"], ["one", "two"], 0, []]
    assert [{**frame, "client_id": ""} for frame in frames] == [
        {"type": "send", "to": BOB, "text": "one", "client_id": ""},
        {"type": "send", "group": "club", "text": "two", "client_id": ""},
        {"type": "send", "to": BOB, "text": "three", "client_id": ""},
    ]
    ids = {frame["client_id"] for frame in frames}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


def test_what_was_under_way_when_the_line_broke_goes_again_first_under_its_name(
    modules: Modules,
) -> None:
    frames = modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        line.up = false; box.pause(); box.add(bob, "three");
        line.up = true; box.resume();
        box.stored(id("one")); box.stored(id("two"));
        return line.sent;
        """
    )
    assert [frame["text"] for frame in frames] == ["one", "one", "two", "three"]
    assert frames[0] == frames[1]


def test_what_the_server_refuses_for_good_is_kept_and_lets_the_next_go(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        box.refused({ client_id: id("one"), code: "invalid", message: "no" });
        const [failed] = box.of("user:bob@example.org");
        const seen = [texts(), failed.failed, kept.get(failed.client_id).failed];
        box.resume(); seen.push(box.waiting); box.stored(id("two"));
        seen.push(texts(), box.size, box.waiting);
        box.retry(failed.client_id);
        seen.push(texts(), box.waiting, box.of("user:bob@example.org")[0].failed ?? null);
        box.stored(failed.client_id);
        seen.push(box.size);
        return seen;
        """
    ) == [
        ["one", "two"],
        "no",
        "no",
        1,
        ["one", "two", "two"],
        1,
        0,
        ["one", "two", "two", "one"],
        1,
        None,
        0,
    ]


def test_what_is_discarded_is_gone_and_lets_the_next_go(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        box.discard(id("one"));
        return [texts(), box.size, kept.names().length, box.stored("unknown") ?? null];
        """
    ) == [["one", "two"], 1, 1, None]


def test_a_refusal_that_passes_is_waited_out_and_nothing_overtakes(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        box.add(bob, "one"); box.add(bob, "two");
        const again = new Promise((heard) => (line.heard = heard));
        box.refused({ client_id: id("one"), code: "rate_limited", retry_after: 0.01 });
        const before = [texts(), box.of("user:bob@example.org").map((one) => one.failed ?? null)];
        await again;
        return [...before, texts(), new Set(line.sent.map((frame) => frame.client_id)).size];
        """
    ) == [["one"], [None, None], ["one", "one"], 1]


def test_what_a_closed_tab_left_unsent_is_sent_by_whoever_has_a_line(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        line.up = false;
        const other = new outbox.Outbox(kept, () => false);
        box.add(bob, "mine"); other.add(bob, "other's");
        kept.put("junk", { text: "no name" }); kept.put("nothing", null);
        line.up = true; box.resume();
        box.stored(id("mine")); box.stored(id("other's"));
        other.resume();
        return [texts(), box.size, other.size];
        """
    ) == [["mine", "other's"], 0, 0]


def test_a_reload_finds_everything_in_the_order_of_writing(modules: Modules) -> None:
    assert modules.run(
        OUTBOX
        + """
        line.up = false;
        const written = Array.from({ length: 20 }, (_, number) => `text ${number}`);
        for (const text of written) box.add(bob, text);
        kept.values = new Map([...kept.values].toSorted());
        const again = new outbox.Outbox(kept, send);
        const found = again.of("user:bob@example.org").map((one) => one.text);
        again.clear();
        return [found.join() === written.join(), again.size, kept.names().length];
        """
    ) == [True, 0, 0]


def test_every_change_is_told(modules: Modules) -> None:
    assert (
        modules.run(
            OUTBOX
            + """
        let changes = 0;
        box.addEventListener("change", () => (changes += 1));
        const told = (act) => { const before = changes; act(); return changes > before; };
        return [
          told(() => box.add(bob, "one")),
          told(() => box.refused({ client_id: id("one"), code: "invalid", message: "no" })),
          told(() => box.retry(id("one"))),
          told(() => box.stored(id("one"))),
        ];
        """
        )
        == [True] * 4
    )


# -- shelf -------------------------------------------------------------------------------------


def test_a_shelf_keeps_values_by_kind_and_user_and_reads_junk_as_nothing(modules: Modules) -> None:
    assert modules.run(
        """
        const one = new shelf.Shelf("draft", "ann@example.org");
        const others = [
          new shelf.Shelf("draft", "an@example.org"),
          new shelf.Shelf("outbox", "ann@example.org"),
        ];
        one.put("a:b", { deep: ["é", 1] }); one.put("c", "text");
        localStorage.setItem("chatd.draft:ann@example.org:junk", "{");
        const again = new shelf.Shelf("draft", "ann@example.org");
        const seen = [again.get("a:b"), again.get("junk"), again.get("none")];
        seen.push(again.names().toSorted());
        for (const other of others) { other.put("x", 1); other.clear(); }
        seen.push(again.names().length);
        again.remove("c"); seen.push(again.get("c"));
        again.clear(); seen.push(again.names(), localStorage.length);
        return seen;
        """
    ) == [{"deep": ["é", 1]}, None, None, ["a:b", "c", "junk"], 3, None, [], 0]


def test_where_the_browser_keeps_nothing_values_live_as_long_as_the_page(
    modules: Modules,
) -> None:
    assert modules.run(
        """
        const full = () => { throw new DOMException("no", "QuotaExceededError"); };
        const storage = Object.create({ getItem: () => null, setItem: full, removeItem() {} });
        const one = new shelf.Shelf("draft", "ann@example.org", storage);
        one.put("a", 1); one.put("a", 2); one.put("b", 3);
        const seen = [one.get("a"), one.get("none"), one.names().toSorted()];
        one.remove("a"); seen.push(one.get("a"), one.names());
        one.clear(); seen.push(one.names());
        return seen;
        """
    ) == [2, None, ["a", "b"], None, ["b"], []]


# -- socket ------------------------------------------------------------------------------------


def test_pauses_between_attempts_double_up_to_half_a_minute_and_differ(modules: Modules) -> None:
    shortest, longest, drawn = modules.run(
        """
        const attempts = Array.from({ length: 2000 }, (_, attempt) => attempt);
        const drawn = Array.from({ length: 200 }, () => socket.backoff(3));
        return [
          attempts.map((attempt) => socket.backoff(attempt, 0)),
          attempts.map((attempt) => socket.backoff(attempt, 1)),
          drawn,
        ];
        """
    )
    assert longest[:7] == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert set(longest[5:]) == {30_000}
    assert [2 * one for one in shortest] == longest
    assert all(4_000 <= one <= 8_000 for one in drawn)
    assert len(set(drawn)) > 100


# -- session -----------------------------------------------------------------------------------


def token(payload: object) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(payload, ensure_ascii=False).encode())
    return f"h.{encoded.decode().rstrip('=')}.s"


SESSION: Final = """
return given.map(([token, left]) => {
  const kept = new Map();
  const storage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name),
  };
  const one = new session.Session(storage);
  one.token = token;
  const untold = one.renewAt === Infinity;
  one.lasts(left, 1_000_000);
  const at = one.renewAt;
  one.end();
  return [untold, at, one.token, one.renewAt === Infinity];
});
"""


def test_a_token_is_renewed_half_way_through_its_life(modules: Modules) -> None:
    hour = {"iat": 5_000, "exp": 8_600, "sub": "жÿ?>"}
    cases = [(token(hour), 3_600), (token(hour), 1_800), (token(hour), 600)]
    found = modules.run(SESSION, cases)
    assert [one[1] for one in found] == [2_800_000, 1_000_000, -200_000]
    assert all(one[0] and one[2] is None and one[3] for one in found)


def test_what_is_no_token_is_renewed_when_it_ends(modules: Modules) -> None:
    junk = ["", "x", "a.b.c", "a..c", "..", token([]), token("x"), token({"exp": 5}), token(None)]
    found = modules.run(SESSION, [(one, 60) for one in junk])
    assert [one[1] for one in found] == [1_060_000] * len(junk)
