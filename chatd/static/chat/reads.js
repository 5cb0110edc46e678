// What the user has read, on its way to the server: gathered, and kept while there is no line.
import { fromOf, keyOf } from "./targets.js";

const EVERY_MS = 200;

/** Read marks to be told. `send(frame)` tells whether the frame was handed to a live socket. */
export class Reads {
  #send;
  #waiting = new Map();
  #timer = 0;

  constructor(send) {
    this.#send = send;
  }

  /** Everything up to `seq` was read. */
  note(target, seq) {
    this.#waiting.set(keyOf(target), { type: "read", ...fromOf(target), seq });
    this.#timer ||= setTimeout(() => this.flush(), EVERY_MS);
  }

  /** Tell what is waiting; whether anything was. */
  flush() {
    const were = this.#waiting.size > 0;
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const [key, frame] of this.#waiting) if (this.#send(frame)) this.#waiting.delete(key);
    return were;
  }

  clear() {
    this.#waiting.clear();
  }
}
