// A small web client: enough to chat by hand, one to one and in groups.
const $ = (id) => document.getElementById(id);
const here = new URL(location.href);
const groupDoor = here.pathname.match(/^\/group\/([^/]+)\/connect$/);

// A token in the address is used once and leaves the address bar at once.
const given = here.searchParams.get("Authorization");
if (given) sessionStorage.setItem("token", given.replace(/^Bearer /, ""));
if (here.search) history.replaceState(null, "", here.pathname);

let token = sessionStorage.getItem("token");
let me = null;
let socket = null;
let current = null; // {group} or {user}
const tails = new Map(); // conversation key -> Map(seq -> message)
const ticks = new Map(); // conversation key -> {delivered, read}

const key = (target) => (target.group ? `g:${target.group}` : `u:${target.user}`);
const path = (target) =>
  target.group ? `/v1/groups/${encodeURIComponent(target.group)}` : `/v1/users/${encodeURIComponent(target.user)}`;
const target = (message) =>
  message.group ? { group: message.group } : { user: message.from === me ? message.to : message.from };

class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.code = problem.code;
    this.status = problem.status;
  }
}

async function call(method, url, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Refused(answer);
  return answer;
}

function showSignIn(message = "") {
  sessionStorage.removeItem("token");
  token = null;
  $("chat").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = message;
  $("email").focus();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const answer = await call("POST", "/v1/auth/sign-in", {
      email: $("email").value, password: $("password").value,
    });
    token = answer.token;
    sessionStorage.setItem("token", token);
    await start();
  } catch (error) {
    $("sign-in-error").textContent = error.message;
  }
});

$("sign-out").addEventListener("click", async () => {
  await call("POST", "/v1/auth/sign-out").catch(() => {});
  socket?.close();
  showSignIn();
});

async function start() {
  try {
    me = (await call("GET", "/v1/auth/me")).email;
  } catch (error) {
    showSignIn(error.status === 401 ? "" : error.message);
    return;
  }
  $("sign-in").hidden = true;
  $("chat").hidden = false;
  $("me").textContent = me;
  connect();
  await listConversations();
  if (groupDoor) await open({ group: decodeURIComponent(groupDoor[1]) });
}

function connect() {
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/ws`;
  socket = new WebSocket(url, ["chatd.v1", `bearer.${token}`]);
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (!token) return;
    if (event.code === 4401) return showSignIn("Please sign in again.");
    $("state").textContent = "Reconnecting …";
    setTimeout(connect, 1000 + Math.random() * 1000);
  };
}

const online = new Set();

function receive(frame) {
  if (frame.type === "ready") $("state").textContent = "Connected";
  else if (frame.type === "message") {
    add(target(frame), frame);
    listConversations();
  } else if (frame.type === "sent") {
    const text = pending.get(frame.client_id) ?? "";
    add(frame.group ? { group: frame.group } : { user: frame.to }, { ...frame, from: me, text });
    listConversations();
  }
  else if (frame.type === "presence") {
    frame.online.forEach((user) => online.add(user));
    frame.offline.forEach((user) => online.delete(user));
    list($("online"), [...online].filter((user) => user !== me).sort().map((user) => ({ user })));
  } else if (frame.type === "receipt") tick(frame);
  else if (frame.type === "error") $("notice").textContent = frame.message;
  else if (frame.type === "gap" && current && key(current) === key(frame)) history_(current);
}

const pending = new Map(); // client_id -> text

function add(where, message) {
  const messages = tails.get(key(where)) ?? new Map();
  tails.set(key(where), messages);
  if (!messages.has(message.seq)) messages.set(message.seq, message);
  if (current && key(current) === key(where)) show();
}

function tick(frame) {
  const where = key(frame.group ? frame : { user: frame.to });
  const known = ticks.get(where) ?? { delivered: 0, read: 0 };
  known[frame.kind] = Math.max(known[frame.kind], frame.seq);
  ticks.set(where, known);
  if (current && where === key(current)) show();
}

function show() {
  const messages = [...(tails.get(key(current)) ?? new Map()).values()].sort((a, b) => a.seq - b.seq);
  const known = ticks.get(key(current)) ?? { delivered: 0, read: 0 };
  $("log").replaceChildren(...messages.map((message) => {
    const line = document.createElement("li");
    const author = document.createElement("strong");
    author.textContent = `${message.from} `;
    const time = document.createElement("small");
    const state = message.from !== me ? ""
      : message.read_at || known.read >= message.seq ? " · read"
      : message.delivered_at || known.delivered >= message.seq ? " · delivered" : " · stored";
    time.textContent = ` ${new Date(message.sent_at).toLocaleTimeString()}${state}`;
    line.append(author, document.createTextNode(message.text), time);
    return line;
  }));
  $("log").scrollTop = $("log").scrollHeight;
  const last = messages.at(-1);
  if (last && last.from !== me && document.visibilityState === "visible") {
    const whose = current.group ? { group: current.group } : { from: current.user };
    if (socket?.readyState === 1) socket.send(JSON.stringify({ type: "read", ...whose, seq: last.seq }));
  }
}

async function history_(where) {
  const page = await call("GET", `${path(where)}/messages?limit=100`);
  page.items.forEach((message) => add(where, message));
}

async function open(where) {
  current = where;
  $("notice").textContent = "";
  $("title").textContent = where.group ? `Group ${where.group}` : where.user;
  $("membership").hidden = true;
  $("composer").hidden = true;
  $("log").replaceChildren();
  try {
    await history_(where);
    $("composer").hidden = false;
    show();
    $("text").focus();
  } catch (error) {
    if (where.group && (error.code === "not_a_member" || error.code === "unknown_group")) {
      $("join").textContent = error.code === "not_a_member" ? "Join" : "Create this group";
      $("join").dataset.code = error.code;
      $("membership").hidden = false;
    }
    $("notice").textContent = error.message;
  }
  await listConversations();
}

$("join").addEventListener("click", async () => {
  try {
    if ($("join").dataset.code === "not_a_member") await call("POST", `${path(current)}/join`);
    else await call("POST", "/v1/groups", { name: current.group });
    await open(current);
  } catch (error) {
    $("notice").textContent = error.message;
  }
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState !== 1) {
    $("notice").textContent = "Not connected; try again in a moment.";
    return;
  }
  const id = crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`;
  pending.set(id, $("text").value);
  const to = current.group ? { group: current.group } : { to: current.user };
  socket.send(JSON.stringify({ type: "send", ...to, text: $("text").value, client_id: id }));
  $("text").value = "";
});

$("open").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("open-name").value.trim().toLowerCase();
  $("open-name").value = "";
  open(name.includes("@") ? { user: name } : { group: name });
});

async function listConversations() {
  const page = await call("GET", "/v1/me/conversations?limit=200").catch(() => null);
  if (page) list($("conversations"), page.items);
}

function list(element, items) {
  element.replaceChildren(...items.map((item) => {
    const line = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = (item.group ?? item.user) + (item.unread ? ` (${item.unread})` : "");
    if (current && key(current) === key(item)) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => open(item.group ? { group: item.group } : { user: item.user }));
    line.append(button);
    return line;
  }));
}

if (token) start();
else showSignIn();
