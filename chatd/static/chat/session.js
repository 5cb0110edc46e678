// Who is signed in: the token, where it is kept, and when it needs a successor.

const KEPT = "chatd.token";

/** The token of this tab. It lives in `sessionStorage`: a tab is signed in until it is closed. */
export class Session {
  #storage;
  #endsAt = Infinity;

  constructor(storage) {
    this.#storage = storage;
  }

  get token() {
    return this.#storage.getItem(KEPT);
  }

  set token(token) {
    this.#storage.setItem(KEPT, token);
  }

  /** Go on with what the server gave: `{token, expires_in}`. */
  take({ token, expires_in }) {
    this.token = token;
    this.lasts(expires_in);
  }

  end() {
    this.#storage.removeItem(KEPT);
    this.#endsAt = Infinity;
  }

  /** The server says how many seconds the token is good for, whatever this device's clock says. */
  lasts(seconds, now = Date.now()) {
    this.#endsAt = now + seconds * 1000;
  }

  /** When a fresh token should be asked for, in milliseconds since 1970: half-way through this one. */
  get renewAt() {
    return this.#endsAt - lifetime(this.token) / 2;
  }
}

/** How long a JWT is good for from its making, in milliseconds (RFC 7519 section 4.1); 0 for what is none. */
function lifetime(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { iat, exp } = JSON.parse(atob(payload));
    return (exp - iat) * 1000 || 0;
  } catch {
    return 0;
  }
}
