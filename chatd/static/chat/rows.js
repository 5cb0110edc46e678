// What stands in the log, line by line: days, the line above what is new, messages. No I/O, no DOM.
import { dayOf, dayTitle } from "./times.js";

const RUN_MS = 5 * 60_000;

/**
 * The rows for some messages and for what is still being sent, in order. A row:
 * `{key, kind, …}` with `kind` `start`, `day` (`title`), `new`, or `message` (`message`, `at`, `mine`,
 * `first` and `last` of a run of one author's, `entry` where it is not stored yet).
 */
export function rowsOf({ messages, pending, newFrom, me, fromStart }) {
  // What is stored may still wait for the server to say so.
  const told = new Set(messages.map((message) => message.client_id));
  const all = [
    ...messages.map((message) => stored(message, me)),
    ...pending.filter((entry) => !told.has(entry.client_id)).map((entry) => unsent(entry, me)),
  ];
  const rows = fromStart && all.length ? [{ key: "start", kind: "start" }] : [];
  let before = null;
  for (const row of all) {
    const breaks = [];
    if (!before || dayOf(before.at) - dayOf(row.at) !== 0) {
      breaks.push({
        key: `day ${dayOf(row.at).getTime()} ${row.key}`,
        kind: "day",
        title: dayTitle(row.at),
      });
    }
    if (newFrom && row.message.seq === newFrom) breaks.push({ key: "new", kind: "new" });
    row.first = breaks.length > 0 || !before || !sameRun(before, row);
    if (before && row.first) before.last = true;
    rows.push(...breaks, row);
    before = row;
  }
  if (before) before.last = true;
  return rows;
}

// A message keeps its key when it turns from unsent to stored, and so its place on the screen.
const stored = (message, me) => ({
  key: message.client_id ? `sent ${message.client_id}` : `seq ${message.seq}`,
  kind: "message",
  message,
  at: new Date(message.sent_at),
  mine: message.from === me,
  entry: null,
  last: false,
});

const unsent = (entry, me) => ({
  key: `sent ${entry.client_id}`,
  kind: "message",
  message: { from: me, text: entry.text },
  at: new Date(entry.at),
  mine: true,
  entry,
  last: false,
});

const sameRun = (a, b) => a.message.from === b.message.from && b.at - a.at < RUN_MS;
