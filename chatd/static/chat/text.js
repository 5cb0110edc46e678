// A message's text as nodes: text nodes, and links for web addresses.
import { h } from "./dom.js";

const ADDRESS = /\bhttps?:\/\/[^\s<>"\u202a-\u202e\u2066-\u2069]+/giu;
const TRAILING = /[.,;:!?'"»“”’…*_~]$/u;
const PAIRS = { ")": "(", "]": "[", "}": "{" };

/** The nodes that show a text. Nothing in it is ever read as HTML. */
export function textNodes(text) {
  const nodes = [];
  let shown = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = withoutTail(found);
    if (!isWebAddress(address)) continue;
    if (index > shown) nodes.push(document.createTextNode(text.slice(shown, index)));
    nodes.push(link(address));
    shown = index + address.length;
  }
  if (shown < text.length) nodes.push(document.createTextNode(text.slice(shown)));
  return nodes;
}

const link = (address) =>
  h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow ugc" }, address);

/** The address without what belongs to the sentence around it. */
function withoutTail(address) {
  for (;;) {
    const last = address.at(-1);
    const opening = PAIRS[last];
    const unpaired = opening && address.split(last).length > address.split(opening).length;
    if (!unpaired && !TRAILING.test(address)) return address;
    address = address.slice(0, -1);
  }
}

function isWebAddress(address) {
  try {
    const { protocol, username, password } = new URL(address);
    // A name in front of an @ is made to look like another host's.
    return /^https?:$/.test(protocol) && !username && !password;
  } catch {
    return false;
  }
}
