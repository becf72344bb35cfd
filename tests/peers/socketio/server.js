// Socket.IO as its documentation has it: node server.js <port>
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });
io.on("connection", (socket) => {
  socket.on("join", async (room) => {
    await socket.join(room);
    socket.emit("joined");
  });
  socket.on("say", (room, text) => io.to(room).emit("said", text));
});
http.listen(Number(process.argv[2]), "127.0.0.1");
