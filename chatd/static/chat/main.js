// The web client, put together: who is signed in, the live socket, and what is shown.
import { Account } from "./account.js";
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { addressOf, targetAt, tokenIn } from "./doors.js";
import { h } from "./dom.js";
import { Drafts } from "./drafts.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import { browserStorage, Shelf } from "./shelf.js";
import { Socket } from "./socket.js";
import { strings } from "./strings.js";
import { bannerView } from "./views/banner.js";
import { ClientView } from "./views/client.js";
import { signInView } from "./views/sign_in.js";

const RENEW_CHECK_MS = 1_000;
const SOCKET_PATH = "/v1/ws?replay=resume";

/** The page: the sign-in form, or the client of who is signed in. */
class Page {
  #session = new Session(browserStorage("sessionStorage"));
  #api = new Api(this.#session, (token) => this.#refused(token));
  #account = new Account({
    api: this.#api,
    session: this.#session,
    onErased: () => this.#erased(),
  });
  #textLimit;
  #signedIn = null;
  #renewing = false;
  // Whether the token came with the address, and the server has not taken it yet.
  #byLink = false;

  constructor(textLimit) {
    this.#textLimit = textLimit;
  }

  start() {
    const token = tokenIn(location);
    this.#byLink = token !== null;
    if (token) this.#session.token = token;
    // The token must not stay where people copy addresses from, nor in the history.
    if (location.search) history.replaceState(null, "", location.pathname + location.hash);
    if (this.#session.token) this.#connect();
    else this.#signIn();
  }

  #signIn(notice = "", email = "") {
    const view = signInView({
      signIn: (...credentials) => this.#signInWith(...credentials),
      notice,
      email,
    });
    document.title = `${strings.signIn.title} · ${strings.product}`;
    this.#show(view.element);
    view.focus();
  }

  async #signInWith(email, password) {
    const { token } = await this.#api.signIn(email, password);
    this.#session.token = token;
    this.#connect();
  }

  /** Open the socket; the first `hello` tells who one is. */
  #connect() {
    const ending = new AbortController();
    const { signal } = ending;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new Socket({
      url: `${scheme}://${location.host}${SOCKET_PATH}`,
      token: () => this.#session.token,
      resume: (epoch) => this.#signedIn.chat.cursors(epoch),
    });
    this.#signedIn = { ending, socket, chat: null };
    socket.addEventListener("frame", ({ detail }) => this.#hear(detail), { signal });
    socket.addEventListener("state", () => socket.live || this.#signedIn?.chat?.lineDown(), {
      signal,
    });
    socket.addEventListener("unauthenticated", ({ detail }) => this.#refused(detail), { signal });
    window.addEventListener("online", () => socket.wake(), { signal });
    window.addEventListener("offline", () => socket.offline(), { signal });
    document.addEventListener(
      "visibilitychange",
      () => document.visibilityState === "visible" && socket.wake(),
      { signal },
    );
    window.addEventListener("popstate", () => this.#signedIn.chat?.open(targetAt(location)), {
      signal,
    });
    const timer = setInterval(() => this.#renew(), RENEW_CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    this.#show(
      h(
        "main",
        { class: "splash" },
        bannerView({ socket, signal }).element,
        h("h1", {}, strings.product),
      ),
    );
    socket.open();
  }

  #hear(frame) {
    const first = frame.type === "hello" && !this.#signedIn.chat;
    if (first) this.#welcome(frame.user);
    if (frame.type === "hello") {
      this.#session.lasts(frame.expires_in);
      this.#renew();
    }
    // Where the token is refused, a `bye` comes, and no `hello` before it.
    this.#signedIn.chat?.hear(frame);
    if (first) this.#enter();
  }

  /** Open what the address asks for; the focus is where one goes on. */
  async #enter() {
    const { chat, view } = this.#signedIn;
    await chat.open(targetAt(location));
    view.focus();
  }

  /** The server has said who is signed in: show the client. */
  #welcome(me) {
    const { socket, ending } = this.#signedIn;
    const { signal } = ending;
    const outbox = new Outbox(
      new Shelf("outbox", me),
      (frame) => socket.live && socket.send(frame),
    );
    const drafts = new Drafts(new Shelf("draft", me));
    const preferences = new Shelf("preference", me);
    const chat = new Chat({ me, api: this.#api, socket, outbox });
    const view = new ClientView({
      chat,
      socket,
      drafts,
      signal,
      preferences,
      textLimit: this.#textLimit,
      go: (target) => this.#go(target),
      signOut: () => this.#signOut(),
      account: this.#account,
    });
    this.#byLink = false;
    Object.assign(this.#signedIn, { chat, drafts, preferences, view });
    this.#show(view.element);
  }

  /** Open a conversation, at an address of its own. */
  #go(target) {
    const address = addressOf(target);
    if (address !== location.pathname + location.hash) history.pushState(null, "", address);
    this.#signedIn.chat.open(target);
  }

  /** Half-way through its life a token gets a successor, for REST and for the live socket. */
  async #renew() {
    if (this.#renewing || Date.now() < this.#session.renewAt) return;
    const { socket } = this.#signedIn;
    this.#renewing = true;
    try {
      const { token } = this.#session;
      const renewed = await this.#api.post("/v1/auth/token");
      // A password that was changed meanwhile has brought another one, and ended this one.
      if (token !== this.#session.token) return;
      this.#session.take(renewed);
      socket.authenticate();
    } catch {
      // Tried again soon; and where the token is good no more, the form comes up.
    } finally {
      this.#renewing = false;
    }
  }

  #signOut() {
    // Whether or not the server can hear of it now, this tab is signed out.
    this.#api.post("/v1/auth/sign-out").catch(() => {});
    this.#forget();
  }

  #erased() {
    this.#signedIn.preferences.clear();
    this.#forget(strings.signIn.erased);
  }

  /** Nothing that was written stays in the browser, nor the token. */
  #forget(notice) {
    const { chat, drafts } = this.#signedIn;
    chat.outbox.clear();
    drafts.clear();
    this.#leave();
    this.#session.end();
    this.#signIn(notice);
  }

  #show(element) {
    document.body.replaceChildren(element);
  }

  /** The server refused a token: there may be another one by now, or soon. */
  async #refused(token) {
    await this.#account.settled;
    if (!this.#signedIn) return;
    if (token === this.#session.token) this.#ended();
    else this.#signedIn.socket.open();
  }

  /** The token is good no more: sign in again, and go on at the same place. */
  #ended() {
    const email = this.#signedIn.chat?.me ?? "";
    const notice = this.#byLink ? strings.signIn.badLink : strings.signIn.ended;
    this.#byLink = false;
    this.#leave();
    this.#session.end();
    this.#signIn(notice, email);
  }

  #leave() {
    const { socket, ending } = this.#signedIn;
    this.#signedIn = null;
    ending.abort();
    socket.close();
  }
}

const limit = document.querySelector('meta[name="chatd-text-chars"]').content;
new Page(Number(limit) || 0).start();
