// Who is on line, as the server tells it; and who is typing.

/** The users who are on line. `told` is false where the server does not tell: too many are. */
export class Presence {
  told = false;
  #online = new Set();

  apply({ online, offline }) {
    this.told = true;
    for (const user of online) this.#online.add(user);
    for (const user of offline) this.#online.delete(user);
  }

  /** A new connection is told everything anew. */
  reset() {
    this.told = false;
    this.#online.clear();
  }

  has(user) {
    return this.#online.has(user);
  }

  list() {
    return [...this.#online].toSorted();
  }
}

const TYPING_MS = 5_000;

/** Who is typing, by conversation; each for five seconds after the last sign of it. */
export class Typing {
  #timers = new Map();
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  of(key) {
    return [...(this.#timers.get(key)?.keys() ?? [])];
  }

  note(key, user) {
    const timers = this.#timers.get(key) ?? new Map();
    this.#timers.set(key, timers);
    clearTimeout(timers.get(user));
    timers.set(
      user,
      setTimeout(() => this.stop(key, user), TYPING_MS),
    );
    this.#onChange(key);
  }

  stop(key, user) {
    const timers = this.#timers.get(key);
    if (!timers?.has(user)) return;
    clearTimeout(timers.get(user));
    timers.delete(user);
    this.#onChange(key);
  }
}
