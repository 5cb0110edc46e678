// What people are called: their address, or what is left of who was erased.
import { strings } from "./strings.js";

const GONE = /^(erased|deleted)-.*@erased\.invalid$/;

/** What stands for somebody who was erased, or whose texts were deleted, too; undefined for all others. */
export const goneName = (email) => strings.gone[email?.match(GONE)?.[1]];

/** What a user is called. */
export const nameOf = (email) => goneName(email) ?? email;

/** The same where there is little room. */
export const shortNameOf = (email) => goneName(email) ?? email.split("@")[0];
