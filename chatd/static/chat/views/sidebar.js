// The list of conversations, who is on line, and the box that filters and finds.
import { differs, gathered, h, icon, reconcile, say, set, spoken } from "../dom.js";
import { listing } from "../listing.js";
import { shortNameOf } from "../names.js";
import { strings } from "../strings.js";
import { keyOf, normalized } from "../targets.js";
import { brief } from "../times.js";
import { iconButton } from "./controls.js";
import { address, avatar } from "./people.js";

const words = strings.sidebar;
const FIND_AFTER_MS = 250;
const NOTHING_FOUND = { people: [], groups: [] };

/**
 * The sidebar; `acts`: `{open(target), newGroup(), account(), signOut(), notify}` (`notify` is the
 * bell's button).
 */
export class Sidebar {
  #chat;
  #drafts;
  #acts;
  #found = null;
  #timer = 0;
  #asked = 0;

  constructor({ chat, drafts, acts, signal }) {
    this.#chat = chat;
    this.#drafts = drafts;
    this.#acts = acts;
    this.filter = h("input", {
      type: "search",
      class: "filter",
      "aria-label": words.filter,
      placeholder: words.filterShort,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#emptied(event),
    });
    this.people = section("people", words.people);
    this.groups = section("groups", words.groups);
    this.conversations = section("conversations", words.conversations, words.noConversations);
    this.online = section("online", words.online, words.nobodyOnline);
    this.nothing = h("p", { class: "empty", role: "status" });
    this.element = this.#build();
    this.element.addEventListener("keydown", (event) => arrows(event, this.element));
    const render = gathered(() => this.render());
    for (const topic of ["conversations", "presence", "current"])
      chat.addEventListener(topic, render, { signal });
    drafts.addEventListener("change", render, { signal });
    this.render();
  }

  #build() {
    const { account, signOut, newGroup, notify } = this.#acts;
    return h(
      "nav",
      { class: "sidebar", "aria-label": words.label },
      h(
        "div",
        { class: "me" },
        avatar({ user: this.#chat.me }),
        h("span", { class: "name" }, address(this.#chat.me)),
        notify,
        iconButton("person", strings.account.title, account),
        iconButton("exit", words.signOut, signOut),
      ),
      h(
        "div",
        { class: "find" },
        h("div", { class: "search", role: "search" }, icon("search"), this.filter),
        iconButton("plus", words.newGroup, newGroup),
      ),
      this.nothing,
      this.people.element,
      this.groups.element,
      this.conversations.element,
      this.online.element,
    );
  }

  render() {
    const wanted = normalized(this.filter.value);
    const answered = this.#found?.wanted === wanted;
    const shown = listing({
      wanted,
      summaries: this.#chat.summaries.list(),
      online: this.#chat.knowsPresence ? this.#chat.presence.list() : [],
      found: answered ? this.#found : NOTHING_FOUND,
      me: this.#chat.me,
      titleOf: (target) => this.#chat.titleOf(target),
    });
    const nothing = answered && Object.values(shown).every((items) => !items.length);
    const nobody = wanted.includes("@") ? strings.conversation.unknownUser(wanted) : words.nothing;
    say(this.nothing, nothing ? nobody : "");
    say(this.online.hint, this.#onlineHint());
    this.#fill(
      this.conversations,
      shown.conversations,
      (summary) => summary.key,
      this.#showSummary,
    );
    this.#fill(this.online, shown.online, keyOf, this.#showTarget);
    this.#fill(this.people, shown.people, keyOf, this.#showTarget);
    this.#fill(this.groups, shown.groups, keyOf, this.#showTarget);
  }

  #onlineHint() {
    if (!this.#chat.knowsPresence) return "";
    return this.#chat.presence.told ? words.nobodyOnline : words.onlineUntold;
  }

  #fill(part, items, key, show) {
    set(
      part.element,
      "hidden",
      !items.length && (this.filter.value !== "" || !part.hint.textContent),
    );
    set(part.hint, "hidden", items.length > 0);
    reconcile(part.list, items, {
      key,
      create: (item) => rowElement(item.target ?? item, (target) => this.#open(target)),
      update: (element, item) => show(element.firstElementChild, item),
    });
  }

  #open(target) {
    this.filter.value = "";
    this.#found = null;
    this.#acts.open(target);
    this.render();
  }

  #showSummary = (button, { key, target, last, unread }) => {
    const draft = key !== this.#chat.current?.key && this.#drafts.get(key);
    const text = draft ? words.draft + draft : last ? this.#preview(last) : "";
    const current = key === this.#chat.current?.key;
    const title = this.#title(target);
    this.#show(button, { target, title, text, at: last?.sent_at, unread, current });
  };

  #showTarget = (button, { user, group, title, online }) => {
    const target = group ? { group } : { user };
    const key = keyOf(target);
    this.#show(button, {
      target,
      // Shown once: in the list of conversations, where it is one.
      current: key === this.#chat.current?.key && !this.#chat.summaries.get(key),
      title: title || this.#title(target),
      text: title ? group : "",
      online,
    });
  };

  #title(target) {
    return target.user === this.#chat.me ? words.yourself : this.#chat.titleOf(target);
  }

  #preview(message) {
    const text = message.text || strings.messages.removed;
    if (message.from === this.#chat.me) return words.you + text;
    return message.group ? `${shortNameOf(message.from)}: ${text}` : text;
  }

  /** Bring one row up to date, touching nothing that stays as it is. */
  #show(button, { target, title, text, at, unread = 0, online, current }) {
    const here = target.user !== undefined && this.#chat.isOnline(target.user, online);
    set(button, "aria-current", current ? "true" : null);
    set(button, "data-unread", unread > 0 || null);
    if (!differs(button, title, text, at && brief(new Date(at)), unread, here)) return;
    const name = target.user === title ? address(title) : h("bdi", { class: "address" }, title);
    const sign = h("span", { class: "sign", "data-online": here }, avatar(target));
    button.replaceChildren(
      sign,
      h("span", { class: "name" }, name, here && spoken(`, ${words.isOnline}`)),
      at ? h("time", { datetime: at }, brief(new Date(at))) : "",
      text ? h("span", { class: "preview" }, h("bdi", {}, text)) : "",
      unread ? h("span", { class: "badge" }, String(unread), spoken(` ${words.unread}`)) : "",
    );
  }

  /** Go to a conversation's row, or to the filter where it has none. */
  focus(key) {
    const rows = [...this.conversations.list.children];
    const row = rows.find((element) => element.dataset.key === key);
    (row?.firstElementChild ?? this.filter).focus();
  }

  // -- finding ---------------------------------------------------------------------------------

  #typed() {
    clearTimeout(this.#timer);
    this.render();
    const wanted = normalized(this.filter.value);
    if (wanted) this.#timer = setTimeout(() => this.#find(wanted), FIND_AFTER_MS);
  }

  /** Escape empties the filter; where it is empty, it is left to whoever else listens. */
  #emptied(event) {
    if (event.key !== "Escape" || event.isComposing || !this.filter.value) return;
    event.preventDefault();
    this.filter.value = "";
    this.#typed();
  }

  async #find(wanted) {
    const asked = ++this.#asked;
    const found = await this.#chat.find(wanted).catch(() => null);
    if (found && asked === this.#asked) {
      this.#found = { wanted, ...found };
      this.render();
    }
  }
}

/** A titled list: `{element, list, hint}`; the hint stands where it is empty. */
function section(name, title, empty = "") {
  const list = h("ul", { "aria-labelledby": `${name}-title` });
  const hint = h("p", { class: "empty", hidden: !empty }, empty);
  const element = h(
    "section",
    { class: `list ${name}` },
    h("h2", { id: `${name}-title` }, title),
    hint,
    list,
  );
  return { element, list, hint };
}

function rowElement(target, open) {
  const { user, group } = target;
  return h(
    "li",
    {},
    h("button", {
      type: "button",
      class: "row",
      onclick: () => open(group ? { group } : { user }),
    }),
  );
}

/** The arrow keys go from row to row. */
function arrows(event, element) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = [...element.querySelectorAll(".list:not([hidden]) .row")];
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? step > 0 && rows[0] : rows[at + step];
  if (!next && at < 0) return;
  event.preventDefault();
  (next || element.querySelector(".filter")).focus();
}
