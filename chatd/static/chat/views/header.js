// Above the messages: with whom one talks, who of them is there, and the door in and out of a group.
import { differs, gathered, h, set } from "../dom.js";
import { strings } from "../strings.js";
import { briefWithClock } from "../times.js";
import { headerButton, iconButton } from "./controls.js";
import { address, avatar } from "./people.js";

const words = strings.conversation;

/** The header of the open conversation; `acts`: `{back(), leave(), toggleMembers()}`. */
export function headerView({ chat, acts, signal }) {
  const back = iconButton("back", words.back, acts.back, { class: "plain back" });
  const title = h("h1");
  const about = h("p", { class: "about" });
  const panel = { "aria-expanded": "false", "aria-controls": "members" };
  const members = headerButton("group", words.showMembers, acts.toggleMembers, panel);
  const leave = headerButton("exit", words.leave, acts.leave);
  const sign = h("span", { class: "sign" });
  const element = h(
    "header",
    { class: "header" },
    back,
    sign,
    h("div", { class: "titles" }, title, about),
    members,
    leave,
  );

  function render() {
    const conversation = chat.current;
    element.hidden = !conversation;
    if (!conversation) return;
    const { target, status } = conversation;
    if (differs(title, target, chat.titleOf(target))) {
      sign.replaceChildren(avatar(target));
      title.replaceChildren(...titleNodes(target));
    }
    const ready = status === "ready";
    members.hidden = leave.hidden = !(ready && target.group);
    about.replaceChildren(...(ready ? aboutNodes(conversation) : []));
    set(sign, "data-online", target.user && ready && here(conversation.user));
  }

  function titleNodes(target) {
    const called = chat.titleOf(target);
    if (target.group) return [h("bdi", {}, called === target.group ? words.group(called) : called)];
    const isMe = target.user === chat.me;
    return [isMe ? h("bdi", {}, strings.sidebar.yourself) : address(target.user)];
  }

  const here = ({ email, online }) => chat.presenceOf(email, online);

  function aboutNodes({ target, user, group, members: all }) {
    if (target.user) return seen(user);
    const told = [...all.values()].map(here);
    const there = told.filter(Boolean).length;
    const known = !told.includes(undefined);
    const named = group?.title ? [h("bdi", {}, target.group), " · "] : [];
    return [...named, known ? words.membersOnline(all.size, there) : words.members(all.size)];
  }

  function seen(user) {
    if (here(user) === undefined) return [];
    if (here(user)) return [words.online];
    const last = user.last_seen_at;
    return [last ? words.lastSeen(briefWithClock(new Date(last))) : words.offline];
  }

  const later = gathered(render);
  for (const topic of ["current", "members", "presence", "conversations"])
    chat.addEventListener(topic, later, { signal });
  render();
  return {
    element,
    expand: (open) => set(members, "aria-expanded", String(open)),
    focusMembers: () => members.focus(),
  };
}
