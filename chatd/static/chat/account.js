// What one does to one's own account, over REST.

/** The session's user's own account. `onErased()` hears that it is no more. */
export class Account {
  #api;
  #session;
  #onErased;
  #underWay = Promise.resolve();

  constructor({ api, session, onErased }) {
    this.#api = api;
    this.#session = session;
    this.#onErased = onErased;
  }

  /**
   * Settled when nothing is under way that ends the token in use. The server ends it, and what lives
   * by it, before it says so: whoever finds it refused waits for this, and looks what came of it.
   */
  get settled() {
    return this.#underWay;
  }

  /** Change the password: every token ends but a new one, which the session goes on with. */
  changePassword = (current, wanted) =>
    this.#ending(async () => {
      const body = { current, new: wanted };
      this.#session.take(await this.#api.post("/v1/auth/password", body));
    });

  /** Everything of the user's, as a Blob of JSON. */
  download = () => this.#api.blob("/v1/me/export");

  /** Erase the account, for good. */
  erase = (password) =>
    this.#ending(async () => {
      await this.#api.delete("/v1/me", { password });
      this.#onErased();
    });

  #ending(act) {
    const done = act();
    this.#underWay = done.catch(() => {});
    return done;
  }
}
