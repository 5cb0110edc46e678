// The dialog that names who has a message of a group's.
import { h } from "../dom.js";
import { strings } from "../strings.js";
import { address, avatar } from "./people.js";

const words = strings.ticks;

/** A dialog; `open({read, delivered, waiting})` shows the names. */
export function receiversDialog() {
  const lists = h("div", { class: "receivers" });
  const close = h("button", { value: "close" }, words.close);
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "receivers-title" }, words.details),
    lists,
    h("div", { class: "actions" }, close),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "receivers-title" }, form);

  function open({ read, delivered, waiting }) {
    const only = delivered.filter((email) => !read.includes(email));
    lists.replaceChildren(
      ...names(words.readNames, read),
      ...names(words.deliveredNames, only),
      ...names(words.waitingNames, waiting),
    );
    dialog.showModal();
  }

  return { element: dialog, open };
}

function names(title, emails) {
  if (!emails.length) return [];
  const rows = emails.map((email) => h("li", {}, avatar({ user: email }), address(email)));
  return [h("h3", {}, `${title} (${emails.length})`), h("ul", { "aria-label": title }, ...rows)];
}
