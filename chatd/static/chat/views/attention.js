// What reaches people who look elsewhere: the tab's title, notifications, and words for screen readers.
import { gathered, h, set } from "../dom.js";
import { nameOf } from "../names.js";
import { strings } from "../strings.js";
import { keyOf, targetOf } from "../targets.js";
import { iconButton } from "./controls.js";

const WANTED = "wanted";

/** Keeps the tab's title: the number of unread messages, and what is open. */
export function keepTitle({ chat, signal }) {
  const render = () => {
    const place = chat.current ? chat.titleOf(chat.current.target) : "";
    document.title = strings.pageTitle(chat.summaries.unread, place);
  };
  const later = gathered(render);
  for (const topic of ["conversations", "current"]) chat.addEventListener(topic, later, { signal });
  signal.addEventListener("abort", () => (document.title = strings.pageTitle(0, "")));
  render();
}

/** Tells screen readers what comes into the open conversation. The log itself would read out history, too. */
export function announcer({ chat, signal }) {
  const element = h("div", { class: "spoken", "aria-live": "polite" });
  chat.addEventListener(
    "incoming",
    ({ detail: message }) => {
      if (keyOf(targetOf(message, chat.me)) !== chat.current?.key) return;
      element.append(h("p", {}, strings.messages.from(nameOf(message.from), message.text)));
      while (element.children.length > 5) element.firstElementChild.remove();
    },
    { signal },
  );
  return { element };
}

/** The bell, which asks the browser for permission when it is first pressed; and the notifications. */
export function notifications({ chat, shelf, open, signal }) {
  const can = "Notification" in window;
  const words = strings.sidebar;
  const button = iconButton("bell", words.notify, toggle, { hidden: !can });
  const wanted = () => can && Notification.permission === "granted" && shelf.get(WANTED) === true;

  function render() {
    set(button, "aria-pressed", String(wanted()));
    const denied = can && Notification.permission === "denied";
    set(button, "title", denied ? words.notifyDenied : words.notify);
  }

  async function toggle() {
    const want = !wanted() && (await Notification.requestPermission()) === "granted";
    shelf.put(WANTED, want);
    render();
  }

  function show(message) {
    if (!wanted() || (document.visibilityState === "visible" && document.hasFocus())) return;
    const target = targetOf(message, chat.me);
    const from = nameOf(message.from);
    const title = target.group ? `${chat.titleOf(target)}: ${from}` : from;
    const notification = new Notification(title, { body: message.text, tag: keyOf(target) });
    notification.onclick = () => {
      window.focus();
      open(target);
      notification.close();
    };
  }

  function incoming({ detail: message }) {
    try {
      show(message);
    } catch {
      // Some browsers of phones have the name, yet let no page show one.
      button.hidden = true;
    }
  }

  chat.addEventListener("incoming", incoming, { signal });
  render();
  return { button };
}
