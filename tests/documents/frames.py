#!/usr/bin/env python3
"""Checks that every frame is a message of its channel in the AsyncAPI document, and that every message occurred.

Arguments: the address of a server, and a file of lines `{"channel": …, "sent": …, "frame": …}`.
"""

import json
import sys
import urllib.request

import jsonschema

asyncapi = json.load(urllib.request.urlopen(sys.argv[1] + "/asyncapi.json"))


def validator(message):
    payload = {"$ref": f"#/components/messages/{message}/payload", "components": asyncapi["components"]}
    return jsonschema.Draft7Validator(payload)


def messages(channel, action):
    """The names of the messages that Roomcast sends, answers included, or receives on a channel."""
    for operation in asyncapi["operations"].values():
        if operation["channel"]["$ref"] == f"#/channels/{channel}":
            if operation["action"] == action:
                yield from (message["$ref"].rpartition("/")[2] for message in operation["messages"])
            if action == "send":
                answers = operation.get("reply", {}).get("messages", [])
                yield from (message["$ref"].rpartition("/")[2] for message in answers)


known, seen, wrong = {}, {}, []
for line in open(sys.argv[2]):
    line = json.loads(line)
    channel, action = line["channel"], "receive" if line["sent"] else "send"
    if (channel, action) not in known:
        known[channel, action] = {message: validator(message) for message in messages(channel, action)}
    fitting = {name for name, valid in known[channel, action].items() if valid.is_valid(line["frame"])}
    seen.setdefault((channel, action), set()).update(fitting)
    if not fitting:
        wrong.append(f"{channel}: no message of the document matches {json.dumps(line['frame'])}")

for (channel, action), all_messages in known.items():
    missing = all_messages.keys() - seen[channel, action]
    if missing:
        wrong.append(f"{channel}: never occurred: {sorted(missing)}")

print("\n".join(wrong))
sys.exit(bool(wrong) or not known)
