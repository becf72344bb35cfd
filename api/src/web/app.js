// A first look at Roomcast: rooms, messages and resuming, over the native dialect.
// Text is only ever set as text, never as markup.

const at = (id) => document.getElementById(id);
const answers = new Map();
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("token");
let socket = null;
let requests = 0;
let tries = 0;
let room = null; // { id, since, epoch }

history.replaceState(null, "", location.pathname);

function show(state) {
  at("state").textContent = state;
}

async function rest(path, options = {}) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`/api/v1${path}`, { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function act(action, body = {}) {
  const request_id = ++requests;
  socket.send(JSON.stringify({ ...body, action, request_id }));
  return new Promise((resolve, reject) => answers.set(request_id, { resolve, reject }));
}

function line(who, text, id = null) {
  const item = document.createElement("li");
  if (id) item.dataset.id = id;
  else item.className = "event";
  const name = document.createElement("b");
  name.textContent = who;
  const words = document.createElement("span");
  words.textContent = text;
  item.append(name, words);
  at("messages").append(item);
  item.scrollIntoView({ block: "end" });
}

// The history, and after it what was pushed while it was read.
function shown(messages) {
  const last = messages.at(-1)?.id ?? 0;
  const newer = [...at("messages").children].filter((item) => item.dataset.id > last);
  at("messages").replaceChildren();
  for (const { user, message, id } of messages) line(user, message, id);
  at("messages").append(...newer);
}

function said(id) {
  return document.querySelector(`#messages [data-id="${Number(id)}"]`);
}

function listed(made) {
  if (document.querySelector(`#rooms [data-room="${Number(made.id)}"]`)) return;
  const button = document.createElement("button");
  button.textContent = made.name;
  button.dataset.room = made.id;
  button.addEventListener("click", () => enter(made).catch((error) => show(error.message)));
  const item = document.createElement("li");
  item.append(button);
  at("rooms").prepend(item);
}

async function enter(made) {
  if (room?.id === made.id) return;
  const left = room;
  room = { id: made.id };
  at("messages").replaceChildren();
  at("title").textContent = made.name;
  for (const button of document.querySelectorAll("#rooms button")) {
    button.toggleAttribute("aria-current", button.dataset.room === String(made.id));
  }
  if (left) await act("leave_room", { room_pk: left.id });
  await join();
  at("send").hidden = false;
  at("text").focus();
}

// The history first, then what came after its last message; later, what came after the last one seen.
async function join() {
  const joined = room;
  const load = async () => {
    const page = await rest(`/rooms/${joined.id}/messages?limit=100`);
    if (room !== joined) return;
    shown(page.results);
    joined.since = Math.max(joined.since ?? 0, page.results.at(-1)?.id ?? 0) || null;
  };
  if (!joined.since) await load();
  if (room !== joined) return;
  // Nothing is something to go on from too: what was said since the history was read comes first.
  const since = joined.since ?? 0;
  const { position } = await act("join_room", { room_pk: joined.id, since, epoch: joined.epoch });
  joined.epoch = position.epoch;
  // The log no longer has what was missed: the history has.
  if (!position.recovered) await load();
  joined.since ??= position.id;
}

function heard(push) {
  if (push.event === "chatroom") listed(push.data);
  if (!room || push.channel !== `room-${room.id}`) return;
  room.since = push.id;
  if (push.event === "chat-message" && !said(push.id)) line(push.data.user, push.data.message, push.id);
  if (push.event === "message-edit") said(push.data.message_id)?.lastChild.replaceChildren(push.data.message);
  if (push.event === "message-delete") push.data.messages_ids.forEach((id) => said(id)?.remove());
  if (push.event === "participant-join") line(push.data.user, "is here");
  if (push.event === "participant-leave") line(push.data.user, "has left");
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws/`, ["bearer", token]);
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(data);
    if (!("request_id" in frame)) return heard(frame);
    const waiting = answers.get(frame.request_id);
    answers.delete(frame.request_id);
    if (frame.response_status < 300) waiting?.resolve(frame.data);
    else waiting?.reject(new Error(frame.errors[0]));
  });
  socket.addEventListener("open", async () => {
    tries = 0;
    show("connected");
    try {
      await act("subscribe", { channel: "system" });
      if (room) await join();
    } catch (error) {
      show(error.message);
    }
  });
  socket.addEventListener("close", ({ code }) => {
    for (const { reject } of answers.values()) reject(new Error("The connection was lost."));
    answers.clear();
    if (code >= 4000 && code < 4100) return show("the token does not count any more");
    tries += 1;
    const wait = Math.random() * Math.min(15000, 250 * 2 ** tries);
    show("coming back …");
    setTimeout(connect, wait);
  });
}

async function begin() {
  sessionStorage.setItem("token", token);
  try {
    const page = await rest("/rooms?limit=200");
    page.results.reverse().forEach(listed);
  } catch (error) {
    sessionStorage.removeItem("token");
    show(error.message);
    at("login").hidden = false;
    return;
  }
  at("login").hidden = true;
  at("chat").hidden = false;
  connect();
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  begin();
});

at("make").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const made = await rest("/rooms", { method: "POST", body: JSON.stringify({ name: at("name").value }) });
    at("name").value = "";
    listed(made);
    await enter(made);
  } catch (error) {
    show(error.message);
  }
});

at("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const msg_text = at("text").value;
  at("text").value = "";
  try {
    await act("create_message", { room_pk: room.id, msg_text, client_id: crypto.randomUUID() });
  } catch (error) {
    at("text").value = msg_text;
    show(error.message);
  }
});

if (token) begin();
else at("login").hidden = false;
