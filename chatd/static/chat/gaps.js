// Holes that the server announced: fetched over REST, one after the other, and confirmed.
import { fromOf, pathOf } from "./targets.js";

const PAGE = 200;

/**
 * Fetches what `gap` frames name. `take(target, messages)` gets it in order, page by page. What was
 * taken is confirmed: until then the server holds the messages for undelivered.
 */
export class Gaps {
  #api;
  #send;
  #take;
  #last = Promise.resolve();

  constructor({ api, send, take }) {
    this.#api = api;
    this.#send = send;
    this.#take = take;
  }

  /** Fetch one. Where the line breaks meanwhile, the next replay announces the rest again. */
  fill(target, { from_seq, to_seq }) {
    this.#last = this.#last.then(() => this.#fetch(target, from_seq - 1, to_seq)).catch(() => {});
    return this.#last;
  }

  async #fetch(target, after, last) {
    while (after < last) {
      const page = await this.#api.get(`${pathOf(target)}/messages`, {
        after_seq: after,
        limit: PAGE,
      });
      if (!page.items.length) return;
      this.#take(target, page.items);
      after = page.items.at(-1).seq;
      this.#send({ type: "received", ...fromOf(target), seq: after });
    }
  }
}
