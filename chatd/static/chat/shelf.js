// What outlives a reload: small values of one user in the browser's `localStorage`.

/** The browser's storage of that name; where the browser forbids it, one that ends with the page. */
export function browserStorage(name) {
  try {
    return window[name];
  } catch {
    return new PageStorage();
  }
}

/** As much of the Storage interface as is used here. */
class PageStorage {
  #values = new Map();

  get length() {
    return this.#values.size;
  }

  key = (index) => [...this.#values.keys()][index] ?? null;
  getItem = (name) => this.#values.get(name) ?? null;
  setItem = (name, value) => void this.#values.set(name, value);
  removeItem = (name) => void this.#values.delete(name);
}

/**
 * Values of one user under names of one kind. Where the browser takes no more (a full disk) they live
 * as long as the page.
 */
export class Shelf {
  #prefix;
  #storage;
  #unkept = new Map();

  constructor(kind, user, storage = browserStorage("localStorage")) {
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
    const all = Array.from({ length: this.#storage.length }, (_, index) =>
      this.#storage.key(index),
    );
    const kept = all.filter((name) => name.startsWith(this.#prefix));
    const names = kept.map((name) => name.slice(this.#prefix.length));
    return [...new Set([...names, ...this.#unkept.keys()])];
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
