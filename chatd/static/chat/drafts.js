// What was begun and not sent, by conversation.

/** Drafts on a shelf; an empty one is none. */
export class Drafts extends EventTarget {
  #shelf;

  constructor(shelf) {
    super();
    this.#shelf = shelf;
  }

  get(key) {
    return this.#shelf.get(key) ?? "";
  }

  put(key, text) {
    const before = this.get(key);
    if (text === before) return;
    if (text) this.#shelf.put(key, text);
    else this.#shelf.remove(key);
    if (!text !== !before) this.dispatchEvent(new Event("change"));
  }

  clear() {
    this.#shelf.clear();
  }
}
