// The dialog that makes a group.
import { h, say } from "../dom.js";
import { strings } from "../strings.js";
import { normalized } from "../targets.js";
import { field } from "./controls.js";

const words = strings.newGroup;

/** The dialog; `create(name, title)` makes the group, and rejects where the server refuses. */
export function newGroupDialog(create) {
  const name = field(
    "group-name",
    words.name,
    { autocomplete: "off", autocapitalize: "none", spellcheck: "false" },
    words.nameHint,
  );
  const title = field(
    "group-title",
    words.groupTitle,
    { autocomplete: "off", required: false },
    words.titleHint,
  );
  const trouble = h("p", { class: "error", role: "alert" });
  const form = h(
    "form",
    { novalidate: true, onsubmit: submitted },
    h("h2", { id: "new-group-title" }, words.title),
    name.element,
    title.element,
    trouble,
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: () => dialog.close() }, words.cancel),
      h("button", { type: "submit", class: "primary" }, words.create),
    ),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "new-group-title" }, form);

  async function submitted(event) {
    event.preventDefault();
    try {
      await create(normalized(name.input.value), title.input.value.trim());
      dialog.close();
    } catch (error) {
      const fields = error.fields ?? {};
      name.refuse(fields.name ?? (error.code === "group_exists" ? error.message : ""));
      title.refuse(fields.title);
      say(
        trouble,
        fields.name || fields.title || error.code === "group_exists" ? "" : error.message,
      );
      name.input.focus();
    }
  }

  function open() {
    form.reset();
    for (const one of [name, title]) one.refuse();
    say(trouble, "");
    dialog.showModal();
    name.input.focus();
  }

  return { element: dialog, open };
}
