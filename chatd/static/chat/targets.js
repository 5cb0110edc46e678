// Who a conversation is with: `{user: address}` or `{group: name}`, in every form it takes on the way.

/** One word for a target, to be used as a key. */
export const keyOf = (target) => (target.group ? `group:${target.group}` : `user:${target.user}`);

/** The address of its REST resource. */
export const pathOf = (target) =>
  target.group
    ? `/v1/groups/${encodeURIComponent(target.group)}`
    : `/v1/users/${encodeURIComponent(target.user)}`;

/** The conversation that a message (or `sent` frame) belongs to, as `me` sees it. */
export const targetOf = (message, me) =>
  message.group
    ? { group: message.group }
    : { user: message.from === undefined || message.from === me ? message.to : message.from };

/** How a frame names whom it is sent to. */
export const toOf = (target) => (target.group ? { group: target.group } : { to: target.user });

/** How a frame names whose messages were received or read. */
export const fromOf = (target) => (target.group ? { group: target.group } : { from: target.user });

/** An address or a group's name as the server writes it. */
export const normalized = (name) => name.normalize("NFKC").toLowerCase().normalize("NFKC").trim();
