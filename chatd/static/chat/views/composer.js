// Where messages are written: kept as drafts, counted, sent with Enter.
import { gathered, h, say, set } from "../dom.js";
import { goneName } from "../names.js";
import { strings } from "../strings.js";
import { iconButton } from "./controls.js";

const words = strings.composer;
const TYPING_EVERY_MS = 3_000;
const COUNT_FROM = 0.9;

/** The composer of the open conversation. `limit`: the longest text taken, in characters (0: any). */
export function composerView({ chat, drafts, limit, onSent, signal }) {
  const text = h("textarea", {
    id: "message",
    rows: 1,
    placeholder: words.placeholder,
    "aria-label": words.label,
    dir: "auto",
    enterkeyhint: "send",
    "aria-describedby": "composer-hint composer-count",
    autocomplete: "off",
  });
  const count = h("span", { class: "count", id: "composer-count" });
  const send = iconButton("send", words.send, null, { type: "submit", class: "primary send" });
  const typing = h("p", { class: "typing", role: "status" });
  const hint = h("span", { class: "spoken", id: "composer-hint" }, words.hint);
  const element = h(
    "form",
    { class: "composer", onsubmit: submitted },
    typing,
    h("div", { class: "writing" }, text, send),
    count,
    hint,
  );
  let shown = null;
  let toldTyping = 0;

  function submitted(event) {
    event.preventDefault();
    const written = text.value.trim();
    if (!written || over() > 0) return text.focus();
    text.value = "";
    changed();
    toldTyping = 0;
    chat.send(written);
    onSent();
    text.focus();
  }

  const over = () => (limit ? [...text.value.trim()].length - limit : 0);

  function changed() {
    drafts.put(shown.key, text.value);
    const left = -over();
    const near = limit && left < limit * (1 - COUNT_FROM);
    say(count, !near ? "" : left >= 0 ? words.left(left) : words.over(-left));
    set(count, "data-over", left < 0);
    set(text, "aria-invalid", left < 0 ? "true" : null);
    set(send, "aria-disabled", left < 0 ? "true" : null);
    grow();
  }

  function grow() {
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  }

  function render() {
    const conversation = chat.current;
    element.hidden = conversation?.status !== "ready" || !!goneName(conversation.target.user);
    if (element.hidden) return (shown = null);
    if (conversation !== shown) {
      shown = conversation;
      text.value = drafts.get(conversation.key);
      changed();
      // On a touch screen the focus would bring up the keyboard before anything was read.
      if (!matchMedia("(pointer: coarse)").matches) text.focus();
    }
    const names = chat.typing.of(conversation.key);
    say(typing, names.length ? words.typing(names) : "");
  }

  text.addEventListener("input", () => {
    changed();
    if (text.value.trim() && Date.now() - toldTyping > TYPING_EVERY_MS) {
      toldTyping = Date.now();
      chat.typingNow();
    }
  });
  text.addEventListener("keydown", (event) => {
    // While an input method composes, Enter takes its suggestion.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    element.requestSubmit();
  });
  const later = gathered(render);
  for (const topic of ["current", "typing"]) chat.addEventListener(topic, later, { signal });
  render();
  return { element, focus: () => text.focus() };
}
