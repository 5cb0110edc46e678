// One opened conversation: whether one may, its messages, its members; loaded over REST.
import { keyOf, pathOf } from "./targets.js";
import { Timeline } from "./timeline.js";

const PAGE = 100;
const CONTEXT = 30;

/**
 * What is known of a conversation that was opened.
 *
 * `status`: `loading`, `ready`, `not_member`, `unknown` (no such group or user) or `failed` (for `error`).
 * `group` and `user` are the server's views of what it is with; `members` a group's members by address;
 * `newFrom` the seq of the first message that was unread when it was opened, 0 for none.
 */
export class Conversation {
  status = "loading";
  error = null;
  group = null;
  user = null;
  members = new Map();
  timeline = new Timeline();
  newFrom = 0;
  #api;
  #loading = null;

  constructor(api, target) {
    this.#api = api;
    this.target = target;
    this.key = keyOf(target);
    this.path = pathOf(target);
  }

  /** Load it around what was read up to, `summary` being its line in the list, if it has one. */
  async load(summary) {
    try {
      const status = await this.#find();
      if (status === "ready")
        await Promise.all([this.#loadAround(summary), this.target.group && this.loadMembers()]);
      // Not before: whoever sees it ready, shows it, and the first look decides where it starts.
      this.status = status;
    } catch (error) {
      this.status = "failed";
      this.error = error.message;
    }
  }

  // Asked for in lists, where it is no error that something does not exist.
  async #find() {
    if (this.target.group) {
      const name = this.target.group;
      const { items } = await this.#api.get("/v1/groups", { prefix: name, limit: 1 });
      this.group = items.find((group) => group.name === name) ?? null;
      return !this.group ? "unknown" : this.group.joined ? "ready" : "not_member";
    }
    const { items } = await this.#api.get("/v1/users", { prefix: this.target.user, limit: 1 });
    this.user = items.find((user) => user.email === this.target.user) ?? null;
    return this.user ? "ready" : "unknown";
  }

  async #loadAround(summary) {
    this.timeline.know(summary?.lastSeq ?? 0);
    if (!summary?.unread) return this.loadNewest();
    const read = summary.readSeq;
    const [before, after] = await Promise.all([
      read ? this.#page({ before_seq: read + 1, limit: CONTEXT }) : { items: [] },
      this.#page({ after_seq: read, limit: PAGE }),
    ]);
    this.timeline.replace([...before.items, ...after.items]);
  }

  async loadNewest() {
    const page = await this.#page({ limit: PAGE });
    this.timeline.replace(page.items);
  }

  /** Load older messages, one page at a time however often it is asked for. */
  loadOlder() {
    return this.#once(async () => {
      const page = await this.#page({ before_seq: this.timeline.first, limit: PAGE });
      this.timeline.prepend(page.items, page.has_more);
    });
  }

  /** Load what follows the window. */
  loadNewer() {
    return this.#once(async () => {
      const page = await this.#page({ after_seq: this.timeline.last, limit: PAGE });
      if (this.timeline.messages.length) this.timeline.append(page.items);
      else this.timeline.replace(page.items);
    });
  }

  /** Load the ends of what may have changed while nobody was listening: receipts, members. */
  async refresh() {
    if (this.target.group) return this.loadMembers();
    const [page] = await Promise.all([this.#page({ limit: PAGE }), this.#lookAgain()]);
    for (const message of page.items) {
      if (message.delivered_at)
        this.timeline.mark({ kind: "delivered", seq: message.seq, at: message.delivered_at });
      if (message.read_at)
        this.timeline.mark({ kind: "read", seq: message.seq, at: message.read_at });
    }
  }

  /** Who is gone meanwhile stays as they were known. */
  async #lookAgain() {
    const known = this.user;
    await this.#find();
    this.user ??= known;
  }

  /** Nobody has been listening: who was on line may have gone, and is asked for by `refresh`. */
  doubt() {
    const doubted = { online: undefined, last_seen_at: undefined };
    if (this.user) this.user = { ...this.user, ...doubted };
    for (const [email, member] of this.members) this.members.set(email, { ...member, ...doubted });
  }

  async loadMembers() {
    const members = await this.#api.all(`${this.path}/members`);
    this.members = new Map(members.map((member) => [member.email, member]));
  }

  /** A receipt, of the other of a pair or of a member. */
  receipt(frame) {
    if (!frame.group) return this.timeline.mark(frame);
    const member = this.members.get(frame.by);
    const field = `${frame.kind}_seq`;
    if (member && frame.seq > member[field])
      this.members.set(frame.by, { ...member, [field]: frame.seq });
  }

  #page = (query) => this.#api.get(`${this.path}/messages`, query);

  #once(load) {
    this.#loading ??= load().finally(() => (this.#loading = null));
    return this.#loading;
  }
}
