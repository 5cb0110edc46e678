// How far one's own message has got: sending, stored, delivered, read.

/**
 * A tick of a message to one person: `{state, deliveredAt?, readAt?}`.
 * A receipt covers everything up to its seq; a message's own times are exact where it has them.
 */
export function pairTick(message, { delivered, read }) {
  const readAt = message.read_at ?? (message.seq <= read.seq ? read.at : undefined);
  const deliveredAt =
    message.delivered_at ?? (message.seq <= delivered.seq ? delivered.at : readAt);
  const state = readAt ? "read" : deliveredAt ? "delivered" : "stored";
  return { state, deliveredAt, readAt };
}

/**
 * A tick of a message to a group: `{state, delivered, read, waiting}`, the last three lists of
 * addresses. Only who was a member when it was written counts; the author does not.
 */
export function groupTick(message, members) {
  const delivered = [];
  const read = [];
  const waiting = [];
  for (const { email, joined_at, delivered_seq, read_seq } of members) {
    if (email === message.from || joined_at > message.sent_at) continue;
    if (read_seq >= message.seq) read.push(email);
    if (Math.max(delivered_seq, read_seq) >= message.seq) delivered.push(email);
    else waiting.push(email);
  }
  const everybody = delivered.length > 0 && waiting.length === 0;
  const state = !everybody ? "stored" : read.length === delivered.length ? "read" : "delivered";
  return { state, delivered, read, waiting };
}
