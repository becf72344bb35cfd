// A small chat page over the native dialect: rooms, messages, and resuming after a lost connection.
// Text from users is only set as text, never as markup.

const byId = (id) => document.getElementById(id);
const answers = new Map();
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? sessionStorage.getItem("token");
let socket = null;
let requestCount = 0;
let attempts = 0;
let room = null; // { id, since, epoch }

history.replaceState(null, "", location.pathname);

function show(state) {
  byId("state").textContent = state;
}

async function request(path, options = {}) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`/api/v1${path}`, { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function sendAction(action, body = {}) {
  const request_id = ++requestCount;
  socket.send(JSON.stringify({ ...body, action, request_id }));
  return new Promise((resolve, reject) => answers.set(request_id, { resolve, reject }));
}

function addLine(who, text, id = null) {
  const item = document.createElement("li");
  if (id) item.dataset.id = id;
  else item.className = "event";
  const name = document.createElement("b");
  name.textContent = who;
  const words = document.createElement("span");
  words.textContent = text;
  item.append(name, words);
  byId("messages").append(item);
  item.scrollIntoView({ block: "end" });
}

// Shows the history, and below it the messages that were pushed while it was loaded.
function showHistory(messages) {
  const last = messages.at(-1)?.id ?? 0;
  const newer = [...byId("messages").children].filter((item) => item.dataset.id > last);
  byId("messages").replaceChildren();
  for (const { user, message, id } of messages) addLine(user, message, id);
  byId("messages").append(...newer);
}

function findMessage(id) {
  return document.querySelector(`#messages [data-id="${Number(id)}"]`);
}

function addRoom(entry) {
  if (document.querySelector(`#rooms [data-room="${Number(entry.id)}"]`)) return;
  const button = document.createElement("button");
  button.textContent = entry.name;
  button.dataset.room = entry.id;
  button.addEventListener("click", () => openRoom(entry).catch((error) => show(error.message)));
  const item = document.createElement("li");
  item.append(button);
  byId("rooms").prepend(item);
}

async function openRoom(entry) {
  if (room?.id === entry.id) return;
  const left = room;
  room = { id: entry.id };
  byId("messages").replaceChildren();
  byId("title").textContent = entry.name;
  for (const button of document.querySelectorAll("#rooms button")) {
    button.toggleAttribute("aria-current", button.dataset.room === String(entry.id));
  }
  if (left) await sendAction("leave_room", { room_pk: left.id });
  await join();
  byId("send").hidden = false;
  byId("text").focus();
}

// Joins the current room. At first it loads the history and then the events after it; later only those after the last
// event that was received.
async function join() {
  const joined = room;
  const load = async () => {
    const page = await request(`/rooms/${joined.id}/messages?limit=100`);
    if (room !== joined) return;
    showHistory(page.results);
    joined.since = Math.max(joined.since ?? 0, page.results.at(-1)?.id ?? 0) || null;
  };
  if (!joined.since) await load();
  if (room !== joined) return;
  // 0 for a room without messages: then all events since its creation are pushed.
  const since = joined.since ?? 0;
  const { position } = await sendAction("join_room", { room_pk: joined.id, since, epoch: joined.epoch });
  joined.epoch = position.epoch;
  // The log no longer has the missed events, so load the history.
  if (!position.recovered) await load();
  joined.since ??= position.id;
}

function handlePush(push) {
  if (push.event === "chatroom") addRoom(push.data);
  if (!room || push.channel !== `room-${room.id}`) return;
  room.since = push.id;
  if (push.event === "chat-message" && !findMessage(push.id)) addLine(push.data.user, push.data.message, push.id);
  if (push.event === "message-edit") findMessage(push.data.message_id)?.lastChild.replaceChildren(push.data.message);
  if (push.event === "message-delete") push.data.messages_ids.forEach((id) => findMessage(id)?.remove());
  if (push.event === "participant-join") addLine(push.data.user, "joined");
  if (push.event === "participant-leave") addLine(push.data.user, "left");
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws/`, ["bearer", token]);
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(data);
    if (!("request_id" in frame)) return handlePush(frame);
    const waiting = answers.get(frame.request_id);
    answers.delete(frame.request_id);
    if (frame.response_status < 300) waiting?.resolve(frame.data);
    else waiting?.reject(new Error(frame.errors[0]));
  });
  socket.addEventListener("open", async () => {
    attempts = 0;
    show("connected");
    try {
      await sendAction("subscribe", { channel: "system" });
      if (room) await join();
    } catch (error) {
      show(error.message);
    }
  });
  socket.addEventListener("close", ({ code }) => {
    for (const { reject } of answers.values()) reject(new Error("The connection was lost."));
    answers.clear();
    if (code >= 4000 && code < 4100) return show("the token is no longer valid");
    attempts += 1;
    const wait = Math.random() * Math.min(15000, 250 * 2 ** attempts);
    show("reconnecting …");
    setTimeout(connect, wait);
  });
}

async function start() {
  sessionStorage.setItem("token", token);
  try {
    const page = await request("/rooms?limit=200");
    page.results.reverse().forEach(addRoom);
  } catch (error) {
    sessionStorage.removeItem("token");
    show(error.message);
    byId("login").hidden = false;
    return;
  }
  byId("login").hidden = true;
  byId("chat").hidden = false;
  connect();
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  start();
});

byId("make").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const newRoom = await request("/rooms", { method: "POST", body: JSON.stringify({ name: byId("name").value }) });
    byId("name").value = "";
    addRoom(newRoom);
    await openRoom(newRoom);
  } catch (error) {
    show(error.message);
  }
});

byId("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const msg_text = byId("text").value;
  byId("text").value = "";
  try {
    await sendAction("create_message", { room_pk: room.id, msg_text, client_id: crypto.randomUUID() });
  } catch (error) {
    byId("text").value = msg_text;
    show(error.message);
  }
});

if (token) start();
else byId("login").hidden = false;
