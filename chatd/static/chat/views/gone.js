// What stands where messages are written, where nobody is left to write to.
import { gathered, h } from "../dom.js";
import { goneName } from "../names.js";
import { strings } from "../strings.js";

/** A line in place of the composer. */
export function goneView({ chat, signal }) {
  const element = h("p", { class: "gone" }, strings.conversation.gone);

  function render() {
    const conversation = chat.current;
    element.hidden = !(conversation?.status === "ready" && goneName(conversation.target.user));
  }

  chat.addEventListener("current", gathered(render), { signal });
  render();
  return { element };
}
