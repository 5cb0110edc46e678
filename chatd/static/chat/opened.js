// The conversations that were opened last, kept up so that going back to one takes no time.
import { Conversation } from "./conversation.js";
import { keyOf } from "./targets.js";

const MOST = 8;

/** Opened conversations by key, the last opened last; beyond eight, the longest unopened goes. */
export class Opened {
  #api;
  #byKey = new Map();

  constructor(api) {
    this.#api = api;
  }

  get(key) {
    return this.#byKey.get(key);
  }

  /** The conversation with a target: as it was left, if it was ready, else a new one to load. */
  open(target) {
    const key = keyOf(target);
    const known = this.#byKey.get(key);
    const conversation = known?.status === "ready" ? known : new Conversation(this.#api, target);
    this.#byKey.delete(key);
    this.#byKey.set(key, conversation);
    const [oldest] = this.#byKey.keys();
    if (this.#byKey.size > MOST) this.#byKey.delete(oldest);
    return conversation;
  }

  close(key) {
    this.#byKey.delete(key);
  }

  /** Keep none but this one (or none at all, for null). */
  closeOthers(conversation) {
    this.#byKey.clear();
    if (conversation) this.#byKey.set(conversation.key, conversation);
  }

  /** Where a replay would continue what is loaded. */
  cursors() {
    const whole = [...this.#byKey.values()].filter(
      ({ status, timeline }) => status === "ready" && !timeline.hasNewer,
    );
    return whole.map(({ target, timeline }) => ({ ...target, seq: timeline.last }));
  }
}
