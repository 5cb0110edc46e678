// The heart of the client: what the signed-in user's frames and clicks do to what is known.
import { Gaps } from "./gaps.js";
import { goneName, nameOf } from "./names.js";
import { Opened } from "./opened.js";
import { Presence, Typing } from "./presence.js";
import { Reads } from "./reads.js";
import { Summaries } from "./summaries.js";
import { keyOf, targetOf, toOf } from "./targets.js";

const REFRESH_AFTER_MS = 400;
const CATCH_UP = 200;

/**
 * What one signed-in user sees, kept true by the socket's frames.
 *
 * Events: `conversations` (the list), `current` (which one is open, or how it stands), `timeline` (the
 * open one's messages or their ticks), `members`, `presence`, `typing` (all of the open one), and
 * `incoming` (`detail`: a message of somebody else's that came live).
 */
export class Chat extends EventTarget {
  current = null;
  titles = new Map();
  presence = new Presence();
  #api;
  #socket;
  #opened;
  #epoch = null;
  #live = false;
  #listLoaded = Promise.resolve();
  #refreshTimer = 0;
  #membersTimer = 0;
  #reads;
  #gaps;

  constructor({ me, api, socket, outbox }) {
    super();
    this.me = me;
    this.outbox = outbox;
    this.summaries = new Summaries(me);
    this.typing = new Typing((key) => key === this.current?.key && this.#tell("typing"));
    this.#api = api;
    this.#opened = new Opened(api);
    this.#socket = socket;
    const send = (frame) => this.#live && socket.send(frame);
    this.#reads = new Reads(send);
    this.#gaps = new Gaps({
      api,
      send: (frame) => socket.send(frame),
      take: (target, messages) => this.#take(target, messages),
    });
    outbox.addEventListener("change", () => this.#tell("timeline", "conversations"));
  }

  /** What to resume from: the ends of what is open, where a replay would continue them. */
  cursors(epoch) {
    return { epoch, cursors: this.#opened.cursors() };
  }

  // -- what the server says --------------------------------------------------------------------

  /** Take in a frame of the socket's. */
  hear(frame) {
    this[`_${frame.type}`]?.(frame);
  }

  /** The socket is gone: nothing comes until the next `hello`, not even that somebody went. */
  lineDown() {
    this.#live = false;
    this.outbox.pause();
    this.presence.reset();
    this.current?.doubt();
    this.#tell("presence");
  }

  _hello(frame) {
    const fresh = this.#epoch !== null && frame.epoch !== this.#epoch;
    this.#epoch = frame.epoch;
    this.presence.reset();
    if (fresh) this.#startOver();
    // What is not in view is not kept up over a broken line: it is loaded anew when it is opened.
    else this.#opened.closeOthers(this.current);
    this.loadList();
  }

  _ready() {
    this.#live = true;
    this.outbox.resume();
    // Counts of unread that were made while the server had not heard are estimates.
    if (this.#reads.flush()) this.#refreshSoon();
    const current = this.current;
    if (current?.status === "ready") {
      this.#refresh(current);
      this.#catchUp(current);
    } else if (current?.status === "failed") {
      this.open(current.target);
    }
    this.#tell("presence");
  }

  _message(frame) {
    const target = targetOf(frame, this.me);
    const key = keyOf(target);
    this.typing.stop(key, frame.from);
    this.#opened.get(key)?.timeline.append([frame]);
    const fresh = this.summaries.written(frame);
    this.#tell("conversations", ...(key === this.current?.key ? ["timeline"] : []));
    if (fresh && this.#live && frame.from !== this.me) this.#emit("incoming", frame);
  }

  _sent(frame) {
    const entry = this.outbox.stored(frame.client_id);
    const target = targetOf(frame, this.me);
    const conversation = this.#opened.get(keyOf(target));
    if (!entry) {
      conversation?.timeline.know(frame.seq);
      return this.#refreshSoon();
    }
    const { type: _, duplicate: __, ...rest } = frame;
    const message = { ...rest, from: this.me, text: entry.text };
    conversation?.timeline.append([message]);
    this.summaries.written(message);
    this.#tell("conversations", "timeline");
    if (conversation) this.#catchUp(conversation);
  }

  _error(frame) {
    if (frame.client_id) this.outbox.refused(frame);
  }

  _receipt(frame) {
    const key = keyOf(frame.group ? frame : { user: frame.to });
    this.#opened.get(key)?.receipt(frame);
    if (key === this.current?.key) this.#tell("timeline", "members");
  }

  _read(frame) {
    if (this.summaries.read(keyOf(frame), frame.seq)) this.#refreshSoon();
    this.#tell("conversations");
  }

  _gap(frame) {
    const target = frame.group ? { group: frame.group } : { user: frame.user };
    this.#opened.get(keyOf(target))?.timeline.know(frame.to_seq);
    this.#fill(target, frame);
  }

  _presence(frame) {
    this.presence.apply(frame);
    this.#tell("presence");
  }

  _typing(frame) {
    this.typing.note(keyOf(frame.group ? frame : { user: frame.from }), frame.from);
  }

  _joined(frame) {
    const target = { group: frame.group };
    if (frame.user === this.me) {
      this.summaries.joined(target);
      this.#refreshSoon();
      if (this.#isCurrent(target) && this.current.status === "not_member") this.open(target);
    }
    this.#membersChanged(target);
    this.#tell("conversations");
  }

  _left(frame) {
    const target = { group: frame.group };
    if (frame.user !== this.me) return this.#membersChanged(target);
    this.summaries.remove(keyOf(target));
    this.#opened.close(keyOf(target));
    this.#tell("conversations");
    if (this.#isCurrent(target)) this.open(target);
  }

  // -- what the user does ----------------------------------------------------------------------

  /** Open a conversation, or none. */
  async open(target) {
    const conversation = target && this.#opened.open(target);
    this.current = conversation;
    this.#tell("current", "timeline", "members", "typing", "conversations");
    if (!conversation) return;
    if (conversation.status !== "ready") {
      await this.#listLoaded;
      await conversation.load(this.summaries.get(conversation.key));
    }
    if (conversation !== this.current) return;
    if (conversation.group) this.titles.set(target.group, conversation.group.title);
    conversation.newFrom = this.#firstUnread(conversation);
    this.#tell("current", "timeline", "members");
  }

  /** Nobody is looking: what is unread now will be new to who looks next. */
  markNew() {
    const { key, newFrom } = this.current;
    const first = this.#firstUnread(this.current);
    const seen = newFrom <= (this.summaries.get(key)?.readSeq ?? 0);
    if (first && seen) this.current.newFrom = first;
  }

  send(text) {
    this.current.newFrom = 0;
    this.outbox.add(this.current.target, text);
  }

  typingNow() {
    if (this.#live) this.#socket.send({ type: "typing", ...toOf(this.current.target) });
  }

  /** The user has seen everything of the open conversation up to `seq`. */
  markRead(seq) {
    const { key, target, timeline } = this.current;
    const summary = this.summaries.get(key);
    if (!summary || seq <= summary.readSeq) return;
    const covered = timeline.between(summary.readSeq + 1, seq);
    const whole = covered.length === seq - summary.readSeq;
    const count = whole ? covered.filter((message) => message.from !== this.me).length : undefined;
    if (this.summaries.read(key, seq, count)) this.#refreshSoon();
    this.#reads.note(target, seq);
    this.#tell("conversations");
  }

  async loadOlder() {
    await this.#loadMore((one) => one.loadOlder());
  }

  async loadNewer() {
    await this.#loadMore((one) => one.loadNewer());
  }

  /** Go to the end, however far away the loaded part is. */
  async loadNewest() {
    if (this.current.timeline.hasNewer) await this.#loadMore((one) => one.loadNewest());
  }

  async join() {
    const { target, path } = this.current;
    await this.#api.post(`${path}/join`);
    await this.open(target);
  }

  async leave() {
    const { target, path, key } = this.current;
    await this.#api.post(`${path}/leave`);
    this.summaries.remove(key);
    this.#opened.close(key);
    await this.open(target);
  }

  /** Make a group. */
  async createGroup(name, title) {
    const group = await this.#api.post("/v1/groups", { name, ...(title && { title }) });
    this.titles.set(group.name, group.title);
    this.summaries.joined({ group: group.name });
  }

  /** Whom and what the server knows by the start of a name: `{people, groups}`. */
  async find(prefix) {
    const [people, groups] = await Promise.all([
      prefix.length <= 254 ? this.#api.get("/v1/users", { prefix, limit: 20 }) : { items: [] },
      prefix.length <= 64 ? this.#api.get("/v1/groups", { prefix, limit: 20 }) : { items: [] },
    ]);
    return { people: people.items, groups: groups.items };
  }

  /** Whether anything is known of who is on line: a line is up that would tell. */
  get knowsPresence() {
    return this.#live;
  }

  /**
   * Whether a user is on line, undefined where it is not known; `otherwise` where the server does not
   * tell.
   */
  presenceOf(email, otherwise) {
    if (!this.#live || goneName(email)) return undefined;
    return this.presence.told ? this.presence.has(email) : otherwise;
  }

  /** Whether a user is known to be on line. */
  isOnline(email, otherwise) {
    return this.presenceOf(email, otherwise) === true;
  }

  /** What a conversation is called. */
  titleOf(target) {
    if (target.user) return nameOf(target.user);
    return this.titles.get(target.group) || target.group;
  }

  // -- keeping up ------------------------------------------------------------------------------

  /** Load the list of conversations, and the titles of the groups in it; one load at a time. */
  loadList() {
    this.#listLoaded = this.#listLoaded.then(() => this.#loadList());
    return this.#listLoaded;
  }

  async #loadList() {
    this.summaries.asked();
    try {
      const [items, groups] = await Promise.all([
        this.#api.all("/v1/me/conversations"),
        this.#api.all("/v1/me/groups"),
      ]);
      for (const group of groups) this.titles.set(group.name, group.title);
      this.summaries.load(items);
      this.#tell("conversations", "current");
    } catch {
      // The line is bad, or just went: the next hello asks again.
    }
  }

  #refreshSoon() {
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.loadList(), REFRESH_AFTER_MS);
  }

  /** Everything that was known is of another store. */
  #startOver() {
    const target = this.current?.target;
    this.summaries = new Summaries(this.me);
    this.#opened.closeOthers(null);
    this.#reads.clear();
    this.titles.clear();
    if (target) this.open(target);
  }

  #isCurrent(target) {
    return this.current?.key === keyOf(target);
  }

  #firstUnread({ key, timeline }) {
    const readSeq = this.summaries.get(key)?.readSeq ?? 0;
    if (!this.summaries.get(key)?.unread) return 0;
    return timeline.messages.find((one) => one.seq > readSeq && one.from !== this.me)?.seq ?? 0;
  }

  /** Fetch what a replay left out, and show it where it is open. */
  async #fill(target, gap) {
    await this.#gaps.fill(target, gap);
    this.#tell("timeline", "conversations");
    this.#refreshSoon();
    if (this.#isCurrent(target)) this.#catchUp(this.current);
  }

  #take(target, messages) {
    this.#opened.get(keyOf(target))?.timeline.append(messages);
    for (const message of messages) this.summaries.written(message);
  }

  /** What came while a page was being fetched lies behind a hole: close it where the end was in view. */
  async #catchUp(conversation) {
    const { timeline } = conversation;
    const missing = timeline.lastSeq - timeline.last;
    if (missing <= 0 || missing > CATCH_UP || conversation.status !== "ready") return;
    await conversation.loadNewer().catch(() => {});
    if (conversation === this.current) this.#tell("timeline");
  }

  async #refresh(conversation) {
    await conversation.refresh().catch(() => {});
    this.#tell("timeline", "members");
  }

  async #loadMore(load) {
    const conversation = this.current;
    await load(conversation);
    if (conversation === this.current) this.#tell("timeline");
  }

  #membersChanged(target) {
    const conversation = this.current;
    if (!this.#isCurrent(target) || conversation.status !== "ready") return;
    clearTimeout(this.#membersTimer);
    this.#membersTimer = setTimeout(async () => {
      await conversation.loadMembers().catch(() => {});
      if (conversation === this.current) this.#tell("members", "timeline");
    }, REFRESH_AFTER_MS);
  }

  #tell(...topics) {
    for (const topic of topics) this.dispatchEvent(new Event(topic));
  }

  #emit(topic, detail) {
    this.dispatchEvent(new CustomEvent(topic, { detail }));
  }
}
