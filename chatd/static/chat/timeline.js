// The loaded part of one conversation: messages by ascending seq, without a hole.

/**
 * A window over a conversation. The server numbers messages 1, 2, 3 … without holes, so whether
 * something fits onto the window, and whether anything is missing, is seen from `seq` alone.
 */
export class Timeline {
  messages = [];
  /** The newest seq that is known of, loaded or not. */
  lastSeq = 0;
  /** How far the other side of a pair has got: `{seq, at}` of the newest receipt of each kind. */
  marks = { delivered: { seq: 0 }, read: { seq: 0 } };
  #floor = 1;

  get first() {
    return this.messages[0]?.seq ?? this.lastSeq + 1;
  }

  get last() {
    return this.messages.at(-1)?.seq ?? 0;
  }

  get hasOlder() {
    return this.messages.length > 0 && this.first > this.#floor;
  }

  get hasNewer() {
    return this.lastSeq > this.last;
  }

  /** The message of that seq, where it is loaded. */
  at(seq) {
    return this.messages[seq - this.first];
  }

  /** The loaded messages from one seq to another, both included. */
  between(from, to) {
    return this.messages.slice(Math.max(0, from - this.first), Math.max(0, to - this.first + 1));
  }

  /** There is a message of this seq. */
  know(seq) {
    this.lastSeq = Math.max(this.lastSeq, seq);
  }

  /** Start anew from these, which have no hole between them. */
  replace(items) {
    this.messages = [...items];
    this.#floor = 1;
    this.know(this.last);
  }

  /** Take what continues the window at its end; the rest is only known of. Whether anything was taken. */
  append(items) {
    const before = this.last;
    for (const item of items) {
      this.know(item.seq);
      const fits = this.messages.length
        ? item.seq === this.last + 1
        : item.seq === this.lastSeq && item.seq === 1;
      if (fits) this.messages.push(item);
    }
    return this.last > before;
  }

  /** Take what continues the window at its start. `hasMore`: whether there are older ones still. */
  prepend(items, hasMore) {
    const older = items.filter((item) => item.seq < this.first);
    if (older.length && older.at(-1).seq !== this.first - 1) return;
    this.messages = [...older, ...this.messages];
    if (!hasMore) this.#floor = this.first;
  }

  /** A receipt of the other side of a pair. */
  mark({ kind, seq, at }) {
    if (seq > this.marks[kind].seq) this.marks[kind] = { seq, at };
  }
}
