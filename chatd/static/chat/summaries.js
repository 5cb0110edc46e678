// The list of conversations: what was last said in each, and how much of it is unread.
import { keyOf, targetOf } from "./targets.js";

/**
 * The user's conversations. A summary: `{key, target, last, lastSeq, readSeq, unread, at}`, where
 * `last` is the last message or null, and `at` orders them.
 */
export class Summaries {
  #me;
  #byKey = new Map();
  #meanwhile = null;

  constructor(me) {
    this.#me = me;
  }

  get(key) {
    return this.#byKey.get(key);
  }

  /** Newest first. */
  list() {
    return [...this.#byKey.values()].toSorted((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
  }

  /** The one so many places behind (or before) another; the first where there is no other. */
  beside(key, by) {
    const list = this.list();
    const at = list.findIndex((summary) => summary.key === key);
    return list[at < 0 ? 0 : at + by];
  }

  get unread() {
    let sum = 0;
    for (const summary of this.#byKey.values()) sum += summary.unread;
    return sum;
  }

  /** The server's list is being asked for: what is written from now on may not be in the answer. */
  asked() {
    this.#meanwhile = [];
  }

  /** Take the server's list, newest first; and what was written since it was asked for. */
  load(items) {
    const known = this.#byKey;
    const meanwhile = this.#meanwhile;
    // A group without a message stands by the time of joining, which only its place tells.
    let at = new Date().toISOString();
    const given = items.map((item) => summaryOf(item, (at = item.last_message?.sent_at ?? at)));
    this.#byKey = new Map(given.map((one) => [one.key, withReads(one, known.get(one.key))]));
    this.#meanwhile = null;
    for (const message of meanwhile ?? []) this.written(message);
  }

  /** A message was written; whether it is one that was not known of. */
  written(message) {
    this.#meanwhile?.push(message);
    const summary = this.#summary(targetOf(message, this.#me));
    if (message.seq <= summary.lastSeq) return false;
    const unread = message.from !== this.#me && message.seq > summary.readSeq ? 1 : 0;
    this.#put({
      ...summary,
      last: message,
      lastSeq: message.seq,
      at: message.sent_at,
      unread: summary.unread + unread,
    });
    return true;
  }

  /**
   * The user has read up to `seq`; `count`: how many of others' messages that newly covers, undefined
   * where it is not known. Returns whether the number of unread has to be asked for.
   */
  read(key, seq, count) {
    const summary = this.#byKey.get(key);
    if (!summary || seq <= summary.readSeq) return false;
    const unread = seq >= summary.lastSeq ? 0 : Math.max(0, summary.unread - (count ?? 0));
    this.#put({ ...summary, readSeq: seq, unread });
    return count === undefined && unread > 0;
  }

  /** The user became a member of a group. */
  joined(target) {
    if (!this.#byKey.has(keyOf(target))) this.#put(this.#summary(target));
  }

  remove(key) {
    this.#byKey.delete(key);
  }

  #put(summary) {
    this.#byKey.set(summary.key, summary);
  }

  #summary(target) {
    const key = keyOf(target);
    const at = new Date().toISOString();
    return (
      this.#byKey.get(key) ?? { key, target, last: null, lastSeq: 0, readSeq: 0, unread: 0, at }
    );
  }
}

function summaryOf(item, at) {
  const target = item.group ? { group: item.group } : { user: item.user };
  return {
    key: keyOf(target),
    target,
    last: item.last_message,
    lastSeq: item.last_seq,
    readSeq: item.read_seq,
    unread: item.unread,
    at,
  };
}

/** The server's summary; what was read here it may not have heard of yet. */
function withReads(given, known) {
  if (!known || known.readSeq <= given.readSeq) return given;
  // At most everything that was written since is unread, too.
  const unread = known.unread + Math.max(0, given.lastSeq - known.lastSeq);
  return { ...given, readSeq: known.readSeq, unread: Math.min(given.unread, unread) };
}
