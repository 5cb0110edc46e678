// The messages of the open conversation: a window of rows over what is loaded, which moves as one scrolls.
import { gathered, h, icon, reconcile, say, set } from "../dom.js";
import { rowsOf } from "../rows.js";
import { strings } from "../strings.js";
import { groupTick, pairTick } from "../ticks.js";
import { groupTickText, pairTickText, rowElement, sendingTick, updateMessage } from "./message.js";

const words = strings.messages;

/** So many rows stand in the page at most, so many are added at a time. */
const MOST = 200;
const STEP = 60;
/** So near to an end of the window, in pixels, it grows there. */
const NEAR = 800;
const AT_END = 48;

/** The log. `onDetails(tick)` shows who has a message of a group's. */
export class LogView {
  #chat;
  #onDetails;
  #shown = null;
  #from = 1;
  #to = 0;
  // Whether the end is in view, and stays there when something is added.
  #stuck = true;
  #extending = false;

  constructor({ chat, onDetails, signal }) {
    this.#chat = chat;
    this.#onDetails = onDetails;
    this.rows = h("ol");
    this.empty = h("p", { class: "empty", hidden: true }, words.empty);
    this.scroller = h(
      "div",
      {
        class: "log",
        role: "log",
        "aria-label": words.label,
        "aria-live": "off",
        tabindex: 0,
        onscroll: gathered(() => this.#scrolled()),
      },
      this.empty,
      this.rows,
    );
    this.jump = h(
      "button",
      {
        type: "button",
        class: "jump",
        hidden: true,
        onclick: () => this.toNewest().catch(() => {}),
      },
      icon("down"),
    );
    this.jump.append(h("span", { class: "badge", "aria-hidden": "true" }));
    this.element = h("div", { class: "history" }, this.scroller, this.jump);
    const render = gathered(() => this.render());
    for (const topic of ["current", "timeline", "members"])
      chat.addEventListener(topic, render, { signal });
    document.addEventListener("visibilitychange", () => this.#markRead(), { signal });
    const sizes = new ResizeObserver(() => this.#stuck && this.#toEnd());
    sizes.observe(this.scroller);
    signal.addEventListener("abort", () => sizes.disconnect());
  }

  render() {
    const conversation = this.#chat.current;
    this.element.hidden = conversation?.status !== "ready";
    if (this.element.hidden) return this.#clear();
    const opened = conversation !== this.#shown;
    if (opened) this.#open(conversation);
    else this.#follow(conversation.timeline);
    if (document.visibilityState !== "visible") this.#chat.markNew();
    this.#draw(opened ? null : this.#anchor());
    if (opened) this.#toStart();
    this.#settle();
  }

  /** Go to the end of the conversation. */
  async toNewest() {
    await this.#chat.loadNewest();
    this.#stuck = true;
    this.render();
    this.#toEnd();
  }

  // -- the window ------------------------------------------------------------------------------

  #clear() {
    this.#shown = null;
    this.rows.replaceChildren();
  }

  /** Start around the first unread message, or at the end. */
  #open(conversation) {
    const { timeline, newFrom } = conversation;
    this.#shown = conversation;
    // Rows are known by numbers, which are those of another conversation's as well.
    this.rows.replaceChildren();
    this.#stuck = !newFrom;
    this.#to = newFrom ? Math.min(timeline.last, newFrom + STEP) : timeline.last;
    this.#from = Math.max(timeline.first, (newFrom || timeline.last) - STEP);
  }

  #follow(timeline) {
    const outside = this.#to > timeline.last || this.#to < timeline.first;
    if (this.#stuck || outside) this.#to = timeline.last;
    this.#from = Math.max(this.#from, timeline.first, this.#stuck ? this.#to - MOST + 1 : 1);
    if (this.#from > this.#to) this.#from = Math.max(timeline.first, this.#to - STEP);
  }

  #atNewest() {
    return this.#to >= this.#shown.timeline.last && !this.#shown.timeline.hasNewer;
  }

  #draw(anchor) {
    const { timeline, newFrom, key } = this.#shown;
    const rows = rowsOf({
      messages: timeline.between(this.#from, this.#to),
      pending: this.#atNewest() ? this.#chat.outbox.of(key) : [],
      newFrom,
      me: this.#chat.me,
      fromStart: this.#from === timeline.first && !timeline.hasOlder,
    });
    set(this.rows, "class", this.#shown.target.group ? "rows of-group" : "rows of-pair");
    set(this.empty, "hidden", rows.length > 0);
    const members = [...this.#shown.members.values()];
    reconcile(this.rows, rows, {
      key: (row) => row.key,
      create: rowElement,
      update: (element, row) =>
        row.kind === "message" && updateMessage(element, row, this.#tick(row, members), this.#acts),
    });
    if (anchor) this.scroller.scrollTop += anchor.element.getBoundingClientRect().top - anchor.top;
    else if (this.#stuck) this.#toEnd();
  }

  #tick({ message, mine, entry }, members) {
    if (!mine) return null;
    if (entry) return sendingTick;
    if (message.group) return groupTickText(groupTick(message, members));
    return pairTickText(pairTick(message, this.#shown.timeline.marks));
  }

  #acts = {
    retry: (entry) => this.#chat.outbox.retry(entry.client_id),
    discard: (entry) => this.#chat.outbox.discard(entry.client_id),
    details: ({ message }) =>
      this.#onDetails(groupTick(message, [...this.#shown.members.values()])),
  };

  // -- scrolling -------------------------------------------------------------------------------

  /** The first message in view, to be found at the same place when rows came or went around it. */
  #anchor() {
    if (this.#stuck) return null;
    const top = this.scroller.getBoundingClientRect().top;
    for (const element of this.rows.children) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top && element.classList.contains("message"))
        return { element, top: box.top };
    }
    return null;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** An opened conversation starts with what is new, below a little of what is known. */
  #toStart() {
    const line = this.rows.querySelector(".new");
    if (!line) return this.#toEnd();
    const offset = line.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top;
    this.scroller.scrollTop += offset - this.scroller.clientHeight / 4;
  }

  #scrolled() {
    if (!this.#shown) return;
    this.#settle();
  }

  /** After any movement: is the end in view, must the window grow, what has been read. */
  #settle() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    // Who stood at the end stays there while what came behind a gap is being fetched.
    this.#stuck = below < AT_END && (this.#stuck || this.#atNewest());
    const unread = this.#chat.summaries.get(this.#shown.key)?.unread ?? 0;
    set(this.jump, "hidden", this.#stuck || (below < clientHeight / 2 && this.#atNewest()));
    set(this.jump, "aria-label", unread ? words.newestUnread(unread) : words.newest);
    say(this.jump.lastElementChild, unread ? `${unread}` : "");
    this.#markRead();
    // A short log is near both of its ends.
    const up = scrollTop < NEAR;
    const down = below < NEAR;
    if (!up && !down) return;
    this.#extend(
      async (timeline) =>
        (up && (await this.#up(timeline))) || (down && (await this.#down(timeline))),
    );
  }

  /** Grow the window at one end, loading where it must; `grow` returns whether it grew. */
  async #extend(grow) {
    if (this.#extending) return;
    this.#extending = true;
    const shown = this.#shown;
    try {
      if (!(await grow(shown.timeline)) || shown !== this.#shown) return;
    } catch {
      // The line is bad. Scrolling on tries again.
      return;
    } finally {
      this.#extending = false;
    }
    this.#draw(this.#anchor());
    this.#settle();
  }

  async #up(timeline) {
    if (this.#from <= timeline.first && timeline.hasOlder) await this.#chat.loadOlder();
    if (this.#from <= timeline.first) return false;
    this.#from = Math.max(timeline.first, this.#from - STEP);
    if (this.#to - this.#from >= MOST) this.#to = this.#from + MOST - 1;
    return true;
  }

  async #down(timeline) {
    if (this.#to >= timeline.last && timeline.hasNewer) await this.#chat.loadNewer();
    if (this.#to >= timeline.last) return false;
    this.#to = Math.min(timeline.last, this.#to + STEP);
    if (this.#to - this.#from >= MOST) this.#from = this.#to - MOST + 1;
    return true;
  }

  /** Everything down to the last message in view has been read, if anybody is looking. */
  #markRead() {
    if (document.visibilityState !== "visible" || !this.#shown || this.element.hidden) return;
    const bottom = this.scroller.getBoundingClientRect().bottom + 1;
    const elements = this.rows.children;
    for (let index = elements.length - 1; index >= 0; index -= 1) {
      const { seq } = elements[index].dataset;
      if (seq && elements[index].getBoundingClientRect().bottom <= bottom)
        return this.#chat.markRead(Number(seq));
    }
  }
}
