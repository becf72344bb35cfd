#!/usr/bin/env python3
"""One conversation of frames, played to an original and to Roomcast; what differs is printed.

Run: compare_match.py <original's address> <Roomcast's address> <secret> <two ids of rooms, as JSON>. The first
room is of the people 1 and 2, the second of 2 and 3; 1 has a business plan. Exit code 1 where an answer differs
that is not in DIFFERENCES. Needs Debian's python3-websockets.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time

import websockets

SECRET, ROOMS = sys.argv[3], json.loads(sys.argv[4])


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(**claims):
    head = part(b'{"alg":"HS256","typ":"JWT"}')
    body = part(json.dumps({"exp": int(time.time()) + 3600} | claims).encode())
    sign = hmac.new(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{part(sign)}"


ONE = ("/ws/chat/", token(user_id=1, iat=1, business=True))
TWO = ("/ws/chat/", token(user_id=2, iat=1, business=False))
THREE = ("/ws/chat/", token(user_id=3, iat=1, business=False))
ADMIN = ("/ws/admin-chat/", token(user_id=9, is_admin=True))

# Who sends what; {room}, {other} and {message} stand for ids. "two" hears what the first room is pushed.
FRAMES = [
    ("one", {"action": "list"}),
    ("one", {"action": "nope"}),
    ("one", {}),
    ("one", {"action": None}),
    ("one", {"action": 5}),
    ("one", {"action": "current_room_info"}),
    ("one", {"action": "leave_room"}),
    ("one", {"action": "create_message", "msg_text": "nowhere"}),
    ("one", {"action": "join_room", "room_pk": "{other}"}),
    ("one", {"action": "join_room", "room_pk": 999999}),
    ("two", {"action": "join_room", "room_pk": "{room}"}),
    ("one", {"action": "join_room", "room_pk": "{room}"}),
    ("one", {"action": "current_room_info"}),
    ("one", {"action": "create_message", "msg_text": "hello"}),
    ("one", {"action": "create_message", "msg_text": "  "}),
    ("one", {"action": "edit_message", "msg_id": "{message}", "edited_msg_text": "edit"}),
    ("two", {"action": "edit_message", "msg_id": "{message}", "edited_msg_text": "mine"}),
    ("one", {"action": "edit_message", "msg_id": 999999, "edited_msg_text": "x"}),
    ("two", {"action": "delete_messages", "msg_id_list": ["{message}"]}),
    ("admin", {"action": "list"}),
    ("admin", {"action": "current_room_info"}),
    ("admin", {"action": "join_room", "room_pk": "{other}"}),
    ("admin", {"action": "create_message", "msg_text": "not there"}),
    ("admin", {"action": "join_room", "room_pk": "{room}"}),
    ("admin", {"action": "edit_message", "msg_id": "{message}", "edited_msg_text": "mine"}),
    ("admin", {"action": "delete_messages", "msg_id_list": ["{message}"]}),
    ("one", {"action": "leave_room"}),
    ("one", {"action": "create_message", "msg_text": "nowhere"}),
]
# Any scalar is given back as it came.
IDS = [1500000, "a text", "ü", None, True, 1.5, ""]

# Where Roomcast is different on purpose, by the frame that is sent, and how. api/docs/match.md has them too.
DIFFERENCES = {
    '{"action": null}': "answered like a frame without `action`, since an action must be a text",
    '{"action": 5}': "the same; the original shows the value as Python writes it",
}


def form(value, rooms, messages):
    """The same for both, where a server makes a value by itself, or the document leaves it open."""
    if isinstance(value, dict):
        if "participants" in value or value.keys() >= {"id", "business"}:
            value = {key: value[key] for key in value if key in ("pk", "participants", "has_business", "id")}
        named = {}
        for key, inner in value.items():
            if key in ("pk", "room_id"):
                named[key] = f"<room {rooms.index(inner)}>"
            elif key == "created_at":
                named[key] = "<moment>"
            elif key == "response":
                named[key] = inner.replace(f"room {rooms[0]}", "<room 0>").replace(f"room {rooms[1]}", "<room 1>")
            elif key == "message_id" or key == "id" and "text" in value:
                named[key] = f"<message {messages.index(inner)}>"
            elif key == "messages_ids":
                named[key] = [f"<message {messages.index(message)}>" for message in inner]
            else:
                named[key] = form(inner, rooms, messages)
        return named
    if isinstance(value, list):
        # The document orders neither rooms nor participants.
        return sorted((form(inner, rooms, messages) for inner in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def filled(value, rooms, messages):
    places = {"{room}": rooms[0], "{other}": rooms[1], "{message}": messages[-1] if messages else None}
    if isinstance(value, list):
        return [filled(inner, rooms, messages) for inner in value]
    return places.get(value, value) if isinstance(value, str) else value


async def play(address, rooms):
    sockets, answers, messages = {}, [], []
    # Everyone has connected before: who they are is known from their tokens.
    for name, (path, secret) in {"one": ONE, "two": TWO, "three": THREE, "admin": ADMIN}.items():
        headers = {"Authorization": f"Bearer {secret}", "Origin": f"http://{address}"}
        sockets[name] = await websockets.connect(f"ws://{address}{path}", extra_headers=headers)
    for number, (who, frame) in enumerate(FRAMES):
        asked = {key: filled(value, rooms, messages) for key, value in frame.items()}
        await sockets[who].send(json.dumps(asked | {"request_id": IDS[number % len(IDS)]}))
        answer = json.loads(await asyncio.wait_for(sockets[who].recv(), 10))
        if answer["action"] == "create_message" and answer["data"]:
            messages.append(answer["data"]["id"])
        answers.append(form(answer, rooms, messages))
    # What the other one was told meanwhile, in its order.
    heard = []
    while True:
        try:
            heard.append(json.loads(await asyncio.wait_for(sockets["two"].recv(), 1)))
        except asyncio.TimeoutError:
            break
    for socket in sockets.values():
        await socket.close()
    return answers + [[form(frame, rooms, messages) for frame in heard]]


async def main():
    original, ours = await play(sys.argv[1], [1, 2]), await play(sys.argv[2], ROOMS)
    different = 0
    for number, (theirs, mine) in enumerate(zip(original, ours)):
        asked = json.dumps(FRAMES[number][1]) if number < len(FRAMES) else "what the other one hears"
        if (theirs == mine) == (asked in DIFFERENCES):
            different += 1
            print(f"{number} {asked}:\n  original {json.dumps(theirs)}\n  Roomcast {json.dumps(mine)}")
    print(f"{len(FRAMES)} frames, {different} answers differ, {len(DIFFERENCES)} are listed")
    sys.exit(1 if different else 0)


asyncio.run(main())
