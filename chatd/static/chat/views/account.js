// The dialog for one's own account: its password, its data, its end.
import { h, say } from "../dom.js";
import { strings } from "../strings.js";
import { busy, field, iconButton } from "./controls.js";

const words = strings.account;
const FILE = "chatd-export.json";
const KEPT_MS = 60_000;

/**
 * The dialog of `me`; `acts`: `{changePassword(current, wanted), download(), erase(password)}`, which
 * reject where the server refuses. `confirm` is the dialog that asks before something is lost.
 */
export function accountDialog({ me, acts, confirm }) {
  const parts = [passwordPart(me, acts), dataPart(acts), endPart(acts, confirm)];
  const close = iconButton("close", words.close, () => dialog.close());
  const dialog = h(
    "dialog",
    { class: "dialog account", "aria-labelledby": "account-title", onclose: reset },
    h("div", { class: "top" }, h("h2", { id: "account-title" }, words.title), close),
    ...parts.map((part) => part.element),
  );

  // No password stays in a dialog that is not seen.
  function reset() {
    for (const part of parts) part.reset();
  }

  function open() {
    dialog.showModal();
    parts[0].focus();
  }

  return { element: dialog, open };
}

function passwordPart(me, acts) {
  const hidden = { type: "password", autocomplete: "new-password" };
  const fields = {
    current: field("account-current", words.current, {
      ...hidden,
      autocomplete: "current-password",
    }),
    new: field("account-new", words.new, hidden, words.newHint),
    again: field("account-again", words.again, hidden),
  };
  const submit = h("button", { type: "submit" }, words.change);
  const said = outcome();
  const element = h(
    "form",
    { novalidate: true, onsubmit: submitted, "aria-labelledby": "account-password-title" },
    h("h3", { id: "account-password-title" }, words.password),
    // For those who keep passwords: whose this is.
    h("input", { type: "email", autocomplete: "username", value: me, hidden: true }),
    ...Object.values(fields).map((one) => one.element),
    h("div", { class: "actions" }, said.element, submit),
  );

  function submitted(event) {
    event.preventDefault();
    busy(submit, words.changing, change);
  }

  async function change() {
    const { current, new: wanted, again } = fields;
    said.clear();
    const wrong = mistakes(wanted.input.value, again.input.value);
    if (refuse(fields, wrong)) return;
    try {
      await acts.changePassword(current.input.value, wanted.input.value);
      element.reset();
      said.done(words.changed);
    } catch (error) {
      explain(error, fields, said);
    }
  }

  return {
    element,
    focus: () => fields.current.input.focus(),
    reset: () => clear(element, fields, said),
  };
}

function mistakes(wanted, again) {
  if ([...wanted].length < 8) return { new: strings.signIn.passwordShort };
  return again === wanted ? {} : { again: words.differs };
}

function dataPart(acts) {
  const button = h(
    "button",
    { type: "button", onclick: () => busy(button, words.downloading, download) },
    words.download,
  );
  const said = outcome();
  const element = h(
    "section",
    { "aria-labelledby": "account-data-title" },
    h("h3", { id: "account-data-title" }, words.data),
    h("p", { class: "hint" }, words.dataHint),
    h("div", { class: "actions" }, said.element, button),
  );

  async function download() {
    said.clear();
    try {
      save(await acts.download(), FILE);
      said.done(words.downloaded(FILE));
    } catch (error) {
      said.wrong(error.message);
    }
  }

  return { element, reset: said.clear };
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  // The browser may not have read it yet.
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}

function endPart(acts, confirm) {
  const fields = {
    password: field("account-end", words.endPassword, {
      type: "password",
      autocomplete: "current-password",
    }),
  };
  const { input } = fields.password;
  const submit = h("button", { type: "submit", class: "danger" }, words.end);
  const said = outcome();
  const element = h(
    "form",
    { novalidate: true, onsubmit: submitted, "aria-labelledby": "account-end-title" },
    h("h3", { id: "account-end-title" }, words.endTitle),
    h("p", { class: "hint" }, words.endHint),
    fields.password.element,
    h("div", { class: "actions" }, said.element, submit),
  );

  async function submitted(event) {
    event.preventDefault();
    said.clear();
    if (refuse(fields, input.value ? {} : { password: words.endPasswordMissing })) return;
    if (await confirm.ask(words.endQuestion)) busy(submit, words.ending, end);
  }

  async function end() {
    try {
      await acts.erase(input.value);
    } catch (error) {
      explain(error, fields, said);
    }
  }

  return { element, reset: () => clear(element, fields, said) };
}

/** What came of it, told to all: `done(text)` or `wrong(text)`. */
function outcome() {
  const good = h("p", { role: "status" });
  const bad = h("p", { class: "error", role: "alert" });
  const tell = (ended, failed) => {
    say(good, ended);
    say(bad, failed);
  };
  return {
    element: h("div", { class: "outcome" }, good, bad),
    done: (text) => tell(text, ""),
    wrong: (text) => tell("", text),
    clear: () => tell("", ""),
  };
}

/** Say beside each field what is wrong with it, and go to the first; whether any is. */
function refuse(fields, wrong) {
  const found = Object.keys(fields).filter((name) => wrong[name]);
  for (const [name, one] of Object.entries(fields)) one.refuse(wrong[name]);
  if (found.length > 0) fields[found[0]].input.focus();
  return found.length > 0;
}

/** The same with what the server refused; what is about no field stands below. */
function explain(error, fields, said) {
  const [first] = Object.keys(fields);
  const wrong =
    error.code === "bad_credentials" ? { [first]: words.wrongPassword } : (error.fields ?? {});
  if (!refuse(fields, wrong)) said.wrong(error.message);
}

function clear(form, fields, said) {
  form.reset();
  refuse(fields, {});
  said.clear();
}
