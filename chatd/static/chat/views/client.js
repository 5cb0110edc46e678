// The client as one sees it once signed in: the sidebar, the open conversation, the strip about the line.
import { h, say } from "../dom.js";
import { strings } from "../strings.js";
import { accountDialog } from "./account.js";
import { announcer, keepTitle, notifications } from "./attention.js";
import { bannerView } from "./banner.js";
import { composerView } from "./composer.js";
import { confirmDialog } from "./confirm.js";
import { goneView } from "./gone.js";
import { headerView } from "./header.js";
import { LogView } from "./log.js";
import { membersView } from "./members.js";
import { newGroupDialog } from "./new_group.js";
import { receiversDialog } from "./receivers.js";
import { shortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { thresholdView } from "./threshold.js";

const TROUBLE_MS = 8_000;

/**
 * The whole client. `go(target)` opens a conversation and changes the page's address; `signOut()` ends
 * the session; `account` is what one does to one's own; everything that is listened to is left when `signal` aborts.
 */
export class ClientView {
  #chat;
  #go;
  #signOut;
  #confirm = confirmDialog();
  #receivers = receiversDialog();
  #trouble = h("p", { class: "trouble", role: "alert" });
  #troubleTimer = 0;
  #newGroup;
  #account;
  #sidebar;
  #header;
  #members;
  #log;
  #composer;

  constructor({ chat, socket, drafts, preferences, account, textLimit, go, signOut, signal }) {
    this.#chat = chat;
    this.#go = go;
    this.#signOut = signOut;
    const shared = { chat, signal };
    this.#newGroup = newGroupDialog((name, title) => this.#create(name, title));
    this.#account = accountDialog({ me: chat.me, acts: account, confirm: this.#confirm });
    const { button: notify } = notifications({ ...shared, shelf: preferences, open: go });
    this.#sidebar = new Sidebar({ ...shared, drafts, acts: this.#sidebarActs(notify) });
    this.#header = headerView({ ...shared, acts: this.#headerActs() });
    this.#members = membersView({
      ...shared,
      acts: { open: go, close: () => this.#showMembers(false) },
    });
    this.#log = new LogView({ ...shared, onDetails: this.#receivers.open });
    this.#composer = composerView({
      ...shared,
      drafts,
      limit: textLimit,
      onSent: () => this.#try(this.#log.toNewest()),
    });
    const threshold = thresholdView({ ...shared, acts: this.#thresholdActs() });
    const banner = bannerView({ socket, outbox: chat.outbox, signal });
    keepTitle(shared);
    const gone = goneView(shared);
    this.element = this.#build({ banner, threshold, gone, spoken: announcer(shared) });
    this.#face();
    chat.addEventListener("current", () => this.#face(), { signal });
    shortcuts({ signal, acts: this.#keys() });
  }

  #build({ banner, threshold, gone, spoken }) {
    const views = [this.#header, threshold, this.#log, this.#composer, gone];
    const parts = views.map((part) => part.element);
    const main = h("main", { class: "conversation", tabindex: -1 }, ...parts);
    const skip = (event) => {
      // The fragment is the address of a conversation, so the browser must not follow the link.
      event.preventDefault();
      (this.#composer.element.hidden ? main : this.#composer).focus();
    };
    return h(
      "div",
      { class: "client" },
      h("a", { class: "skip", href: "#message", onclick: skip }, strings.skip),
      h("div", { class: "strips" }, banner.element, this.#trouble),
      this.#sidebar.element,
      main,
      this.#members.element,
      spoken.element,
      ...[this.#newGroup, this.#receivers, this.#account, this.#confirm].map(
        (dialog) => dialog.element,
      ),
    );
  }

  /** Start at the filter, where nothing that was opened has the focus. */
  focus() {
    // On a touch screen the focus would bring up the keyboard before anything was read.
    if (document.activeElement === document.body && !matchMedia("(pointer: coarse)").matches)
      this.#sidebar.filter.focus();
  }

  // -- what buttons and keys do ----------------------------------------------------------------

  #sidebarActs = (notify) => ({
    open: this.#go,
    newGroup: () => this.#newGroup.open(),
    account: () => this.#account.open(),
    signOut: () => this.#maySignOut(),
    notify,
  });

  #headerActs = () => ({
    back: () => this.#back(),
    leave: () => this.#try(this.#chat.leave()),
    toggleMembers: () => this.#showMembers(!this.#members.open),
  });

  #thresholdActs = () => ({
    join: () => this.#chat.join(),
    create: (name) => this.#create(name, ""),
    retry: () => this.#chat.open(this.#chat.current.target),
  });

  #keys = () => ({
    find: () => this.#sidebar.filter.focus(),
    escape: () => {
      this.#showMembers(false);
      this.#composer.focus();
    },
    step: (by) => {
      const next = this.#chat.summaries.beside(this.#chat.current?.key, by);
      if (next) this.#go(next.target);
    },
  });

  async #create(name, title) {
    await this.#chat.createGroup(name, title);
    this.#go({ group: name });
  }

  async #maySignOut() {
    const unsent = this.#chat.outbox.size;
    const { unsentTitle: title, unsentText, unsentDrop: action } = strings.sidebar;
    const question = { title, text: unsentText(unsent), action };
    if (!unsent || (await this.#confirm.ask(question))) this.#signOut();
  }

  #back() {
    const { key } = this.#chat.current;
    this.#go(null);
    this.#sidebar.focus(key);
  }

  #showMembers(shown) {
    const hadFocus = this.#members.element.contains(document.activeElement);
    this.#members.toggle(shown);
    this.#header.expand(shown);
    if (hadFocus && !shown) this.#header.focusMembers();
  }

  /** On a phone either the list or the conversation fills the screen. */
  #face() {
    this.element.dataset.face = this.#chat.current ? "conversation" : "list";
  }

  /** Say so where something can't be done. */
  async #try(doing) {
    try {
      await doing;
    } catch (error) {
      say(this.#trouble, error.message);
      clearTimeout(this.#troubleTimer);
      this.#troubleTimer = setTimeout(() => say(this.#trouble, ""), TROUBLE_MS);
    }
  }
}
