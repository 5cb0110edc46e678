// Messages on their way to the server: kept until it says that they are stored.
import { keyOf, toOf } from "./targets.js";

/** Refusals that pass by themselves; every other one is for the writer to see. */
const PASSING = new Set(["rate_limited", "unavailable"]);

/**
 * The messages that were written and are not known to be stored.
 *
 * Each has a `client_id`, under which it may be sent any number of times and is still one message; so
 * it is kept over a reload, and sent again whenever its fate is unknown. One is under way at a time:
 * what is written first is stored first, however often the line breaks.
 *
 * An entry: `{client_id, target, text, at, failed?}`; `failed` is why the server does not want it.
 * Event `change` when entries came, went or failed.
 */
export class Outbox extends EventTarget {
  #shelf;
  #send;
  #entries = new Map();
  #underWay = null;
  #timer = 0;
  #count = 0;

  /** `send(frame)` tells whether the frame was handed to a live socket. */
  constructor(shelf, send) {
    super();
    this.#shelf = shelf;
    this.#send = send;
    this.#recall();
  }

  get size() {
    return this.#entries.size;
  }

  /** How many will be sent; the others the server has refused. */
  get waiting() {
    return [...this.#entries.values()].filter((entry) => !entry.failed).length;
  }

  /** What is on its way to one conversation, in the order of writing. */
  of(key) {
    return [...this.#entries.values()].filter((entry) => keyOf(entry.target) === key);
  }

  add(target, text) {
    const entry = { client_id: clientId(), target, text, at: Date.now() + this.#count++ / 1000 };
    this.#keep(entry);
    this.#pump();
  }

  /** The line is up (again): what was under way when it broke goes once more. */
  resume() {
    this.#recall();
    this.pause();
    this.#pump();
  }

  /** The line is down. */
  pause() {
    clearTimeout(this.#timer);
    this.#underWay = null;
  }

  /** The server has stored it. Returns the entry, or undefined where it is not known here. */
  stored(client_id) {
    const entry = this.#entries.get(client_id);
    this.discard(client_id);
    return entry;
  }

  /** The server refused the send with this `error` frame. */
  refused(frame) {
    const entry = this.#entries.get(frame.client_id);
    if (!entry) return;
    if (PASSING.has(frame.code)) {
      this.#timer = setTimeout(() => this.resume(), (frame.retry_after ?? 1) * 1000);
      return;
    }
    this.#keep({ ...entry, failed: frame.message });
    this.#release(frame.client_id);
  }

  /** Send once more what the server refused. */
  retry(client_id) {
    this.#keep({ ...this.#entries.get(client_id), failed: undefined });
    this.#pump();
  }

  discard(client_id) {
    this.#entries.delete(client_id);
    this.#shelf.remove(client_id);
    this.dispatchEvent(new Event("change"));
    this.#release(client_id);
  }

  clear() {
    this.pause();
    this.#entries.clear();
    this.#shelf.clear();
  }

  #release(client_id) {
    if (this.#underWay === client_id) this.#underWay = null;
    this.#pump();
  }

  #pump() {
    if (this.#underWay !== null) return;
    const entry = [...this.#entries.values()].find((one) => !one.failed);
    if (!entry) return;
    const { target, text, client_id } = entry;
    if (this.#send({ type: "send", ...toOf(target), text, client_id })) this.#underWay = client_id;
  }

  #keep(entry) {
    this.#entries.set(entry.client_id, entry);
    this.#shelf.put(entry.client_id, entry);
    this.dispatchEvent(new Event("change"));
  }

  /** Another tab may have been closed with something unsent: whoever has a line sends it. */
  #recall() {
    const kept = this.#shelf.names().map((name) => this.#shelf.get(name));
    const entries = kept.filter((entry) => entry?.client_id && entry.target);
    this.#entries = new Map(
      entries.toSorted((a, b) => a.at - b.at).map((entry) => [entry.client_id, entry]),
    );
    this.dispatchEvent(new Event("change"));
  }
}

/** 128 random bits. `crypto.randomUUID` would want HTTPS, which a server in a local network may not have. */
function clientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
