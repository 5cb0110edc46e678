// A question before something is lost.
import { h, say } from "../dom.js";
import { strings } from "../strings.js";

/** A dialog that asks; `ask({title, text, action})` resolves to whether to do it. */
export function confirmDialog() {
  const title = h("h2", { id: "confirm-title" });
  const text = h("p");
  const action = h("button", { value: "yes", class: "danger" });
  const form = h(
    "form",
    { method: "dialog" },
    title,
    text,
    h("div", { class: "actions" }, h("button", { value: "no" }, strings.newGroup.cancel), action),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "confirm-title" }, form);

  function ask(question) {
    say(title, question.title);
    say(text, question.text);
    say(action, question.action);
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  return { element: dialog, ask };
}
