// What the sidebar lists for what was typed into its box. No I/O, no DOM.
import { goneName } from "./names.js";
import { keyOf } from "./targets.js";

/**
 * The parts of the sidebar: `conversations` and `online` that match what was typed, and `people` and
 * `groups` that the server found and that are in neither. Everything matches where nothing was typed.
 *
 * `summaries`: the conversations, in order; `online`: addresses; `found`: what the server answered,
 * `{people, groups}`; `titleOf(target)`: what a target is called.
 */
export function listing({ wanted, summaries, online, found, me, titleOf }) {
  const matches = (target) =>
    [searched(target, wanted), target.group ? titleOf(target) : ""].some((name) =>
      name.toLowerCase().includes(wanted),
    );
  const conversations = summaries.filter(({ target }) => matches(target));
  const here = online
    .map((user) => ({ user, online: true }))
    .filter((one) => one.user !== me && matches(one));
  const listed = new Set([...conversations.map(({ key }) => key), ...here.map(keyOf)]);
  const people = found.people.map(({ email, online: isOnline }) => ({
    user: email,
    online: isOnline,
  }));
  const groups = found.groups.map(({ name, title }) => ({ group: name, title }));
  const unlisted = (target) => !listed.has(keyOf(target));
  return {
    conversations,
    online: here,
    people: people.filter(unlisted),
    groups: groups.filter(unlisted),
  };
}

/** Whole addresses only for who types one: a domain is everybody's. */
function searched({ user, group }, wanted) {
  return group ?? goneName(user) ?? (wanted.includes("@") ? user : user.split("@")[0]);
}
