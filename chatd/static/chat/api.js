// The REST calls: JSON in and out, problems (RFC 9457) as exceptions.
import { sentence } from "./sentences.js";
import { strings } from "./strings.js";

/** The server refused: `status`, `code` (the stable word), `fields` (messages by field). */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ? sentence(problem.detail) : strings.errors.unexpected(status));
    this.status = status;
    this.code = problem?.code;
    this.fields = Object.fromEntries(
      (problem?.errors ?? []).map((one) => [one.field, sentence(one.message)]),
    );
  }
}

/** The server could not be asked. */
export class Unreachable extends Error {
  constructor() {
    super(strings.errors.unreachable);
  }
}

/** The REST API as the session's user. `onUnauthenticated(token)` hears that it is good no more. */
export class Api {
  #session;
  #onUnauthenticated;

  constructor(session, onUnauthenticated) {
    this.#session = session;
    this.#onUnauthenticated = onUnauthenticated;
  }

  get = (path, query) => this.#call("GET", query ? `${path}?${new URLSearchParams(query)}` : path);
  post = (path, body) => this.#call("POST", path, body);
  delete = (path, body) => this.#call("DELETE", path, body);

  signIn = (email, password) => this.#call("POST", "/v1/auth/sign-in", { email, password }, null);

  /** Every item of a list, page after page, up to `most` of them. */
  async all(path, most = Infinity) {
    const items = [];
    for (let after = null; ;) {
      const page = await this.get(path, { limit: 200, ...(after && { after }) });
      items.push(...page.items);
      after = page.next;
      if (!after || items.length >= most) return items;
    }
  }

  /** A document as it comes. */
  async blob(path) {
    const response = await this.#answer("GET", path);
    return whole(response.blob());
  }

  async #call(...request) {
    const response = await this.#answer(...request);
    return response.status === 204 ? null : response.json();
  }

  async #answer(method, path, body, token = this.#session.token) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const asked = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
    const response = await whole(fetch(path, asked));
    if (response.ok) return response;
    const problem = await response.json().catch(() => null);
    // A password that is wrong says nothing against the token.
    if (response.status === 401 && token && problem?.code !== "bad_credentials")
      this.#onUnauthenticated(token);
    throw new Refused(response.status, problem);
  }
}

async function whole(answer) {
  try {
    return await answer;
  } catch {
    throw new Unreachable();
  }
}
