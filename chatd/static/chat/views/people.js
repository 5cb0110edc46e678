// How users and groups look: a coloured sign with their first letter, and their name.
import { h, icon } from "../dom.js";
import { goneName, nameOf } from "../names.js";

const HUES = 11;

/** The sign of a user, or of a group. */
export function avatar(target) {
  const sign = h("span", {
    class: `avatar hue-${hue(target.group ?? target.user)}`,
    "aria-hidden": "true",
  });
  if (target.group) sign.append(icon("group"));
  else sign.append([...nameOf(target.user)][0].toUpperCase());
  return sign;
}

/** A user's name: their address, its domain less loud than what stands in front of it. */
export function address(email) {
  const gone = goneName(email);
  if (gone) return h("bdi", { class: "address" }, gone);
  const at = email.lastIndexOf("@");
  return h(
    "bdi",
    { class: "address" },
    email.slice(0, at),
    h("span", { class: "domain" }, email.slice(at)),
  );
}

/** One of the colours, always the same for a name (FNV-1a). */
function hue(name) {
  let hash = 0x811c9dc5;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return (hash >>> 0) % HUES;
}
