// One row of the log as an element: a message with its time and tick, or what stands between messages.
import { differs, h, icon, set, spoken } from "../dom.js";
import { sentence } from "../sentences.js";
import { strings } from "../strings.js";
import { textNodes } from "../text.js";
import { briefWithClock, clock, full } from "../times.js";
import { address, avatar } from "./people.js";

const words = strings.messages;

/** The element of a row that `rows.js` made. */
export function rowElement(row) {
  if (row.kind === "start") return h("li", { class: "start" }, words.first);
  if (row.kind === "day") return h("li", { class: "day" }, h("span", {}, row.title));
  if (row.kind === "new") return h("li", { class: "new" }, h("span", {}, words.new));
  return messageElement(row);
}

function messageElement({ message, mine }) {
  const author = h(
    "p",
    { class: "author" },
    ...(mine ? [spoken(`${words.you}:`)] : [address(message.from), spoken(":")]),
  );
  const text = message.text
    ? h("div", { class: "text", dir: "auto" }, ...textNodes(message.text))
    : h("div", { class: "text removed" }, words.removed);
  const sign = !mine && avatar({ user: message.from });
  return h(
    "li",
    {},
    sign,
    h(
      "div",
      { class: "bubble" },
      author,
      h("div", { class: "body" }, text, h("div", { class: "meta" })),
    ),
  );
}

/** Bring a message's element up to date. `tick` is its tick, null where it has none; `act` does what buttons say. */
export function updateMessage(element, row, tick, act) {
  const classes = [
    "message",
    row.mine ? "mine" : "theirs",
    row.first && "first",
    row.last && "last",
    row.entry?.failed && "failed",
  ];
  set(element, "class", classes.filter(Boolean).join(" "));
  set(element, "data-seq", row.message.seq);
  if (!differs(element, tick, row.entry?.failed, row.message.seq, row.at)) return;
  const parts = [time(row.at), tick && tickElement(tick, () => act.details(row))];
  const meta = element.querySelector(".meta");
  const hadFocus = meta.contains(document.activeElement);
  meta.replaceChildren(...(row.entry?.failed ? failure(row.entry, act) : parts.filter(Boolean)));
  if (hadFocus) meta.querySelector("button")?.focus({ preventScroll: true });
}

const time = (at) => h("time", { datetime: at.toISOString(), title: full(at) }, clock(at));

const SIGNS = { sending: "clock", stored: "check", delivered: "checks", read: "checks" };

/** A tick: what it says is what screen readers hear; in a group it opens the names. */
function tickElement(tick, details) {
  const sign = [
    icon(SIGNS[tick.state]),
    tick.part && h("span", { "aria-hidden": "true" }, tick.part),
    spoken(tick.text),
  ];
  if (tick.names) {
    return h(
      "button",
      {
        type: "button",
        class: "tick",
        "data-state": tick.state,
        title: tick.text,
        onclick: details,
      },
      ...sign,
    );
  }
  return h(
    "span",
    {
      class: "tick",
      "data-state": tick.state,
      role: "img",
      "aria-label": tick.text,
      title: tick.title,
    },
    ...sign,
  );
}

/** What a tick says, for a message to one person. */
export function pairTickText({ state, deliveredAt, readAt }) {
  const when = [
    deliveredAt && strings.ticks.deliveredAt(briefWithClock(new Date(deliveredAt))),
    readAt && strings.ticks.readAt(briefWithClock(new Date(readAt))),
  ].filter(Boolean);
  return { state, text: strings.ticks[state], title: when.join(", ") || strings.ticks[state] };
}

/** What a tick says, for a message to a group. */
export function groupTickText({ state, delivered, read, waiting }) {
  const all = delivered.length + waiting.length;
  const said = [
    delivered.length > 0 && strings.ticks.deliveredTo(delivered.length, all),
    read.length > 0 && strings.ticks.readBy(read.length, all),
  ].filter(Boolean);
  const partly = delivered.length > 0 && delivered.length < all;
  return {
    state,
    text: said.join(", ") || strings.ticks.stored,
    part: partly ? `${delivered.length}/${all}` : "",
    names: true,
  };
}

export const sendingTick = {
  state: "sending",
  text: strings.ticks.sending,
  title: strings.ticks.sending,
};

function failure(entry, act) {
  const reason = words.failed(sentence(entry.failed));
  return [
    h("p", { class: "reason", role: "alert" }, icon("warning"), reason),
    h("button", { type: "button", onclick: () => act.retry(entry) }, words.retry),
    h("button", { type: "button", onclick: () => act.discard(entry) }, words.discard),
  ];
}
