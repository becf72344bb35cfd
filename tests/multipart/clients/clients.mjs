// Sends forms with Node's fetch, and with clients from npm.

import { createReadStream, readFileSync } from "node:fs";
import { basename } from "node:path";
import axios from "axios";
import FormStream from "form-data";
import got from "got";
import nodeFetch from "node-fetch";
import superagent from "superagent";

const [base, kind, file] = process.argv.slice(2);
const [name, data] = [basename(file), readFileSync(file)];

function native(client) {
  const form = new FormData();
  form.append("title", `${client} ${kind}`);
  form.append("room", "films");
  form.append("img", new Blob([data], { type: "image/png" }), name);
  return form;
}

function stream(client) {
  const form = new FormStream();
  form.append("img", createReadStream(file));
  form.append("title", `${client} ${kind}`);
  form.append("room", "films");
  return form;
}

await fetch(`${base}/fetch-${kind}`, { method: "POST", body: native("fetch") });
await axios.post(`${base}/axios-${kind}`, native("axios"));
await axios.post(`${base}/axios-stream-${kind}`, stream("axios-stream"));
await got.post(`${base}/got-${kind}`, { body: native("got") });
await nodeFetch(`${base}/node-fetch-${kind}`, { method: "POST", body: stream("node-fetch") });
await superagent.post(`${base}/superagent-${kind}`)
  .field("title", `superagent ${kind}`).field("room", "films").attach("img", file);
