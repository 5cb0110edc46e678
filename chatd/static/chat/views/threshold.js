// What stands in place of the messages: nothing open, loading, not a member, no such group or user.
import { gathered, h, icon } from "../dom.js";
import { goneName } from "../names.js";
import { strings } from "../strings.js";

const words = strings.conversation;

/** The view; `acts`: `{join(), create(name), retry()}`, the first two reject where the server refuses. */
export function thresholdView({ chat, acts, signal }) {
  const element = h("div", { class: "threshold" });
  let shown = null;

  function render() {
    const conversation = chat.current;
    const status = conversation?.status ?? "none";
    element.hidden = status === "ready";
    const state = `${conversation?.key} ${status}`;
    if (state === shown) return;
    shown = state;
    const lost =
      document.activeElement === document.body || !document.activeElement.checkVisibility();
    element.replaceChildren(...(element.hidden ? [] : faces[status](conversation)));
    // What was pressed may be gone: who left a group can join it again from here.
    if (lost) element.querySelector("button")?.focus();
  }

  const faces = {
    none: () => [icon("talk"), h("h1", {}, words.nothing), h("p", {}, words.nothingHint)],
    loading: () => [h("p", { role: "status", class: "loading" }, words.loading)],
    failed: ({ error }) => [
      icon("warning"),
      h("p", { role: "alert" }, words.failed(error)),
      button(words.retry, acts.retry),
    ],
    not_member: ({ target }) => [
      icon("group"),
      h("p", {}, words.joinHint(chat.titleOf(target))),
      button(words.join, acts.join),
    ],
    unknown: ({ target }) =>
      target.group
        ? [
            icon("group"),
            h("p", { role: "status" }, words.unknownGroup(target.group)),
            button(words.createGroup, () => acts.create(target.group)),
          ]
        : goneName(target.user)
          ? [icon("talk"), h("p", { role: "status" }, words.gone)]
          : [
              icon("talk"),
              h("p", { role: "status" }, words.unknownUser(target.user)),
              h("p", {}, words.unknownUserHint),
              button(words.retry, acts.retry),
            ],
  };

  function button(label, act) {
    const trouble = h("p", { class: "error", role: "alert" });
    const press = async () => {
      try {
        await act();
      } catch (error) {
        trouble.textContent = error.message;
      }
    };
    return h(
      "div",
      {},
      h("button", { type: "button", class: "primary", onclick: press }, label),
      trouble,
    );
  }

  const later = gathered(render);
  chat.addEventListener("current", later, { signal });
  render();
  return { element };
}
