// Keys that work everywhere in the client.

/**
 * Ctrl or Cmd with K goes to the filter, Alt with the arrows from conversation to conversation, Escape
 * back to the composer. `acts`: `{find(), escape(), step(by)}`.
 */
export function shortcuts({ acts, signal }) {
  document.addEventListener("keydown", pressed, { signal });

  function pressed(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const act = actOf(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  function actOf({ key, ctrlKey, metaKey, altKey }) {
    if (key === "k" && (ctrlKey || metaKey)) return acts.find;
    if (key === "Escape") return acts.escape;
    if (altKey && key === "ArrowDown") return () => acts.step(1);
    if (altKey && key === "ArrowUp") return () => acts.step(-1);
    return null;
  }
}
