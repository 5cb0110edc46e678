// Times as people read them, in the browser's language and time zone.
import { strings } from "./strings.js";

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DATE_YEAR = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const DAY_YEAR = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const DAY_MS = 86_400_000;

/** Midnight, by which days are told apart. */
export const dayOf = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());

const daysAgo = (date, now) => Math.round((dayOf(now) - dayOf(date)) / DAY_MS);

/** "14:05" */
export const clock = (date) => CLOCK.format(date);

/** Date and time to the second. */
export const full = (date) => FULL.format(date);

/** What stands between two days' messages. */
export function dayTitle(date, now = new Date()) {
  const ago = daysAgo(date, now);
  if (ago === 0) return strings.messages.today;
  if (ago === 1) return strings.messages.yesterday;
  return (date.getFullYear() === now.getFullYear() ? DAY : DAY_YEAR).format(date);
}

/** The shortest that tells when: the time today, the weekday this week, else the date. */
export function brief(date, now = new Date()) {
  const ago = daysAgo(date, now);
  if (ago <= 0) return clock(date);
  if (ago < 7) return WEEKDAY.format(date);
  return (date.getFullYear() === now.getFullYear() ? DATE : DATE_YEAR).format(date);
}

/** The same with the time, for sentences. */
export function briefWithClock(date, now = new Date()) {
  return daysAgo(date, now) <= 0 ? clock(date) : `${brief(date, now)} ${clock(date)}`;
}
