// The members of the open group, those on line first.
import { gathered, h, reconcile, say, set, spoken } from "../dom.js";
import { strings } from "../strings.js";
import { iconButton } from "./controls.js";
import { address, avatar } from "./people.js";

const words = strings.conversation;

/** The panel; `acts`: `{open(target), close()}`. */
export function membersView({ chat, acts, signal }) {
  const list = h("ul", { "aria-labelledby": "members-title" });
  const close = iconButton("close", words.closeMembers, acts.close);
  const top = h(
    "div",
    { class: "top" },
    h("h2", { id: "members-title" }, words.showMembers),
    close,
  );
  const panel = {
    class: "members",
    id: "members",
    "aria-labelledby": "members-title",
    hidden: true,
  };
  const element = h("aside", panel, top, list);
  let open = false;

  function render() {
    const conversation = chat.current;
    element.hidden = !(open && conversation?.status === "ready" && conversation.target.group);
    if (element.hidden) return;
    const here = (one) => chat.isOnline(one.email, one.online);
    const members = [...conversation.members.values()];
    const ordered = [...members.filter(here), ...members.filter((one) => !here(one))];
    reconcile(list, ordered, {
      key: (one) => one.email,
      create: row,
      update: (item, one) => {
        set(item.querySelector(".sign"), "data-online", here(one));
        say(item.querySelector(".spoken"), here(one) ? `, ${words.online}` : "");
      },
    });
  }

  const row = ({ email }) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "row", onclick: () => acts.open({ user: email }) },
        h("span", { class: "sign" }, avatar({ user: email })),
        h("span", { class: "name" }, address(email), spoken("")),
        email === chat.me && h("span", { class: "preview" }, words.you),
      ),
    );

  function toggle(shown) {
    open = shown;
    render();
    return open;
  }

  const later = gathered(render);
  for (const topic of ["current", "members", "presence"])
    chat.addEventListener(topic, later, { signal });
  return {
    element,
    toggle,
    get open() {
      return open;
    },
  };
}
