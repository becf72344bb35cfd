// Serves rooms with Socket.IO as in its documentation: node server.js <port> [<port of Redis>]
// With Redis, several processes share their rooms.
"use strict";

const { createServer } = require("node:http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");

async function adapter(port) {
  const pub = createClient({ url: `redis://127.0.0.1:${port}` });
  const sub = pub.duplicate();
  await Promise.all([pub.connect(), sub.connect()]);
  return createAdapter(pub, sub);
}

async function main(port, redis) {
  const http = createServer();
  const shared = redis && (await adapter(redis));
  const io = new Server(http, { transports: ["websocket"], ...(shared && { adapter: shared }) });
  io.on("connection", (socket) => {
    socket.on("join", async (room) => {
      await socket.join(room);
      socket.emit("joined");
    });
    socket.on("say", (room, text) => io.to(room).emit("said", text));
  });
  http.listen(Number(port), "127.0.0.1");
}

main(process.argv[2], process.argv[3]);
