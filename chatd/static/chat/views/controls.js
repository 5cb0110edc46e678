// Controls that several views use: buttons with a sign, labelled inputs.
import { h, icon, say, set } from "../dom.js";

/** A button that shows a sign alone; its name is for screen readers and the tooltip. */
export const iconButton = (sign, label, onclick, attributes = {}) =>
  h(
    "button",
    { type: "button", class: "plain", "aria-label": label, title: label, onclick, ...attributes },
    icon(sign),
  );

/** A button of a header: sign and name, the name left to screen readers where there is no room. */
export const headerButton = (sign, label, onclick, attributes = {}) =>
  h(
    "button",
    { type: "button", class: "act", onclick, ...attributes },
    icon(sign),
    h("span", {}, label),
  );

/** Do what a button says, one at a time; meanwhile it says what is going on. */
export async function busy(button, working, act) {
  if (button.getAttribute("aria-disabled")) return;
  const label = button.textContent;
  set(button, "aria-disabled", "true");
  say(button, working);
  try {
    await act();
  } finally {
    set(button, "aria-disabled", null);
    say(button, label);
  }
}

/** A labelled input with a place for what is wrong with it: `{element, input, refuse(why)}`. */
export function field(name, label, attributes, hint = "") {
  const error = h("p", { class: "error", id: `${name}-error` });
  const explained = hint && h("p", { class: "hint", id: `${name}-hint` }, hint);
  const describedBy = [hint && `${name}-hint`, `${name}-error`].filter(Boolean).join(" ");
  const input = h("input", {
    id: name,
    name,
    "aria-describedby": describedBy,
    required: true,
    ...attributes,
  });
  const refuse = (why = "") => {
    say(error, why);
    set(input, "aria-invalid", why ? "true" : null);
  };
  input.addEventListener("input", () => refuse());
  const element = h(
    "div",
    { class: "field" },
    h("label", { for: name }, label),
    input,
    explained,
    error,
  );
  return { element, input, refuse };
}
