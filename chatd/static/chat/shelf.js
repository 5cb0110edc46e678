// What outlives a reload: small values of one user in the browser's `localStorage`.

/**
 * Values of one user under names of one kind. Where the browser keeps nothing (private windows, a
 * full disk) they live as long as the page.
 */
export class Shelf {
  #prefix;
  #storage;
  #unkept = new Map();

  constructor(kind, user, storage = window.localStorage) {
    this.#prefix = `chatd.${kind}:${user}:`;
    this.#storage = storage;
  }

  get(name) {
    if (this.#unkept.has(name)) return this.#unkept.get(name);
    return parsed(this.#storage.getItem(this.#prefix + name));
  }

  put(name, value) {
    this.#unkept.delete(name);
    try {
      this.#storage.setItem(this.#prefix + name, JSON.stringify(value));
    } catch {
      this.#unkept.set(name, value);
    }
  }

  remove(name) {
    this.#unkept.delete(name);
    this.#storage.removeItem(this.#prefix + name);
  }

  names() {
    const kept = Object.keys(this.#storage).filter((name) => name.startsWith(this.#prefix));
    return [
      ...new Set([...kept.map((name) => name.slice(this.#prefix.length)), ...this.#unkept.keys()]),
    ];
  }

  clear() {
    for (const name of this.names()) this.remove(name);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
