// What the line is doing, where it is not simply up.
import { h, icon, say, set } from "../dom.js";
import { strings } from "../strings.js";

const words = strings.line;
const SLOW_MS = 800;

/** A strip above everything. While the line is up it is hidden, but for screen readers' "Connected". */
export function bannerView({ socket, outbox = null, signal }) {
  const text = h("span", { role: "status" });
  const count = h("span", { "aria-hidden": "true" });
  const button = h("button", { type: "button", onclick: () => socket.open() });
  const element = h(
    "div",
    { class: "banner" },
    icon("warning"),
    h("p", {}, text, " ", count),
    button,
  );
  let since = Date.now();

  function render() {
    const { phase, retryAt, reason } = socket.state;
    const slow = phase === "connecting" && Date.now() - since > SLOW_MS;
    const shown = slow || phase === "waiting" || phase === "stopped";
    set(element, "data-quiet", shown ? null : "true");
    say(text, sentence(phase, reason));
    say(
      count,
      phase === "waiting"
        ? words.waiting(Math.max(1, Math.ceil((retryAt - Date.now()) / 1000)))
        : "",
    );
    say(button, phase === "stopped" ? words.reconnect : words.retry);
    set(button, "hidden", !(phase === "waiting" || phase === "stopped"));
  }

  function sentence(phase, reason) {
    if (phase === "live") return words.connected;
    if (phase === "stopped") return words.stopped(reason);
    if (phase === "connecting") return words.connecting;
    const kept = outbox?.waiting ? ` ${words.kept(outbox.waiting)}` : "";
    return (navigator.onLine ? words.lost : words.offline) + kept;
  }

  socket.addEventListener(
    "state",
    () => {
      since = Date.now();
      render();
    },
    { signal },
  );
  outbox?.addEventListener("change", render, { signal });
  const timer = setInterval(render, 500);
  signal.addEventListener("abort", () => clearInterval(timer));
  render();
  return { element };
}
