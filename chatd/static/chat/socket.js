// The live socket: opened, watched, and opened again when it breaks. What frames mean is not its business.

const HELLO_MS = 15_000;
const QUIET_MS = 25_000;
const DEAD_MS = 40_000;
const ANSWER_MS = 5_000;
const STEADY_MS = 5_000;
const LONGEST_MS = 30_000;

/** Closes after which the same again would end the same way (docs/protocol.md, close codes). */
const FINAL = new Set([1002, 1003, 1007, 1009, 4400, 4403, 4404]);
const UNAUTHENTICATED = 4401;

/**
 * How long to wait before the next attempt, in milliseconds: doubled from 1 s up to 30 s, and
 * anything from half of that to all of it, so that clients don't come back all at once.
 */
export function backoff(attempt, random = Math.random()) {
  const longest = Math.min(LONGEST_MS, 1000 * 2 ** attempt);
  return longest / 2 + (random * longest) / 2;
}

/**
 * A socket for everything of a user, with `?replay=resume`.
 *
 * Events: `frame` (its `detail` is the frame), `state`, and `unauthenticated` where the token was refused
 * (its `detail`).
 * `state.phase` is `idle`, `connecting`, `live`, `waiting` (until `retryAt`, milliseconds since 1970) or
 * `stopped` (for `reason`).
 */
export class Socket extends EventTarget {
  state = { phase: "idle" };
  #url;
  #token;
  #resume;
  #socket = null;
  #attempt = 0;
  #bye = null;
  #shown = null;
  #heardAt = 0;
  #askedAt = 0;
  #timers = { retry: 0, hello: 0, watch: 0, steady: 0 };

  /** `token()` gives the token to use; `resume(epoch)` the epoch and cursors to resume from. */
  constructor({ url, token, resume }) {
    super();
    this.#url = url;
    this.#token = token;
    this.#resume = resume;
  }

  get live() {
    return this.state.phase === "live";
  }

  /** Connect now, whatever was waited for. */
  open() {
    if (this.state.phase === "connecting" || this.live) return;
    this.#clearTimers();
    this.#bye = null;
    this.#become({ phase: "connecting" });
    const socket = new WebSocket(this.#url, ["chatd.v1"]);
    this.#socket = socket;
    this.#heardAt = Date.now();
    // A token in a frame is in no log, and a bad one is no error in the console.
    socket.onopen = () => this.authenticate();
    socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(event.code, event.reason);
    this.#timers.hello = setTimeout(() => this.#lose(), HELLO_MS);
  }

  /** Close for good. */
  close() {
    this.#drop();
    this.#become({ phase: "idle" });
  }

  /** Whether the frame was handed to the socket. */
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Go on with the token there is now. */
  authenticate() {
    this.#shown = this.#token();
    this.send({ type: "auth", token: this.#shown });
  }

  /** The network or the page came back: don't wait any longer, don't trust an old socket. */
  wake() {
    if (this.state.phase === "waiting") this.open();
    else if (this.live) this.#ask(ANSWER_MS);
  }

  /** The network went: what the socket still says is not worth waiting for. */
  offline() {
    if (this.live || this.state.phase === "connecting") this.#lose();
  }

  #hear(frame) {
    this.#heardAt = Date.now();
    this.#askedAt = 0;
    if (frame.type === "bye") this.#bye = frame;
    if (frame.type === "hello") clearTimeout(this.#timers.hello);
    if (frame.type === "ready") this.#ready();
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
    if (frame.type === "hello") this.send({ type: "resume", ...this.#resume(frame.epoch) });
  }

  #ready() {
    this.#timers.watch = setInterval(() => this.#watch(), 5_000);
    this.#timers.steady = setTimeout(() => (this.#attempt = 0), STEADY_MS);
    this.#become({ phase: "live" });
  }

  // A browser shows no Pings to scripts; a dead line is found by asking where it is quiet.
  #watch() {
    const quiet = Date.now() - this.#heardAt;
    if (quiet > DEAD_MS) this.#lose();
    else if (quiet > QUIET_MS) this.#ask(DEAD_MS - QUIET_MS);
  }

  #ask(within) {
    if (this.#askedAt) return;
    const asked = (this.#askedAt = Date.now());
    this.send({ type: "ping" });
    setTimeout(() => this.#askedAt === asked && this.#lose(), within);
  }

  /** Give the socket up without waiting for its closing handshake. */
  #lose() {
    this.#drop();
    this.#closed(1006, "");
  }

  #drop() {
    this.#clearTimers();
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #closed(code, reason) {
    this.#clearTimers();
    this.#socket = null;
    if (code === UNAUTHENTICATED) {
      this.#become({ phase: "idle" });
      this.dispatchEvent(new CustomEvent("unauthenticated", { detail: this.#shown }));
    } else if (FINAL.has(code) || this.#bye?.reconnect === false) {
      this.#become({ phase: "stopped", reason: this.#bye?.reason || reason || `code ${code}` });
    } else {
      this.#wait();
    }
  }

  #wait() {
    const pause = (this.#bye?.after ?? 0) * 1000 + backoff(this.#attempt++);
    this.#timers.retry = setTimeout(() => this.open(), pause);
    this.#become({ phase: "waiting", retryAt: Date.now() + pause });
  }

  #clearTimers() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#askedAt = 0;
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
