// A server's words as sentences: it says what is wrong in the middle of a line, as programs like it.

/** A word of a language; no name in quotes, no address, no field's name. */
const WORD = /^\p{Ll}[\p{L}'’-]*(?=[,;:.!?]*(?:\s|$))/u;
const END = /[.!?…]["'”’)]*$/u;

/** Some words with a capital in front and a full stop behind, where these are missing. */
export function sentence(words) {
  const told = words.trim();
  const begun = WORD.test(told) ? told[0].toUpperCase() + told.slice(1) : told;
  return !begun || END.test(begun) ? begun : `${begun}.`;
}
