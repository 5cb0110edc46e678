// The page's addresses, and which conversation each of them opens.
import { normalized } from "./targets.js";

const GROUP = /^\/group\/([^/]+)\/connect$/;

/** The token in the address, or null. */
export function tokenIn(location) {
  const given = new URLSearchParams(location.search).get("Authorization");
  return given?.replace(/^Bearer\s+/i, "") || null;
}

/** The conversation an address stands for, or null. */
export function targetAt(location) {
  const group = location.pathname.match(GROUP);
  if (group) return { group: decoded(group[1]) };
  const user = location.pathname === "/chat/user" && decoded(location.hash.slice(1));
  return user ? { user } : null;
}

/** The address that opens a conversation; the fragment keeps people's addresses from servers' logs. */
export function addressOf(target) {
  if (!target) return "/chat";
  if (target.group) return `/group/${encodeURIComponent(target.group)}/connect`;
  return `/chat/user#${encodeURIComponent(target.user).replaceAll("%40", "@")}`;
}

function decoded(part) {
  try {
    return normalized(decodeURIComponent(part));
  } catch {
    return normalized(part);
  }
}
