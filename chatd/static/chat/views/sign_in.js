// The sign-in form. A new address makes a new account.
import { Refused } from "../api.js";
import { h, icon, say, set } from "../dom.js";
import { strings } from "../strings.js";
import { field } from "./controls.js";

const words = strings.signIn;

/** Show the form; `signIn(email, password)` does it, and rejects where the server refuses. */
export function signInView({ signIn, notice, email = "" }) {
  const address = field("email", words.email, {
    type: "email",
    autocomplete: "username",
    inputmode: "email",
    value: email,
  });
  const password = field("password", words.password, {
    type: "password",
    autocomplete: "current-password",
  });
  const trouble = h("p", { class: "error", role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, words.submit);

  async function submitted(event) {
    event.preventDefault();
    say(trouble, "");
    const wrong = mistakes(address.input.value, password.input.value);
    address.refuse(wrong.email);
    password.refuse(wrong.password);
    if (wrong.email || wrong.password) return (wrong.email ? address : password).input.focus();
    set(submit, "disabled", true);
    say(submit, words.working);
    try {
      await signIn(address.input.value.trim(), password.input.value);
    } catch (error) {
      explain(error);
    } finally {
      set(submit, "disabled", false);
      say(submit, words.submit);
    }
  }

  /** Put what the server refused beside the field that it is about. */
  function explain(error) {
    const fields = error instanceof Refused ? error.fields : {};
    address.refuse(fields.email);
    password.refuse(error.code === "bad_credentials" ? error.message : fields.password);
    if (!fields.email && !fields.password && error.code !== "bad_credentials")
      say(trouble, error.message);
    (fields.email ? address : password).input.focus();
  }

  const form = h(
    "form",
    { class: "sign-in", novalidate: true, onsubmit: submitted },
    h("p", { class: "brand" }, icon("talk"), strings.product),
    h("h1", {}, words.title),
    h("p", { class: "lead" }, words.lead),
    notice && h("p", { class: "notice", role: "status" }, notice),
    address.element,
    password.element,
    trouble,
    submit,
  );
  const element = h("main", { class: "door" }, form);
  return { element, focus: () => (email ? password : address).input.focus() };
}

function mistakes(email, password) {
  return {
    email: /^\s*\S+@\S+\s*$/.test(email) ? "" : words.emailMissing,
    password: [...password].length >= 8 ? "" : words.passwordShort,
  };
}
