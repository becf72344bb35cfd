#!/usr/bin/env python3
"""Plays one conversation of frames with an original server and with Roomcast, and prints the differences.

Run: compare_match.py <original's address> <Roomcast's address> <secret> <two ids of rooms, as JSON>. The first
room has the users 1 and 2, the second 2 and 3; user 1 has a business plan. The exit code is 1 if an answer differs
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

# The sender and the frame; {room}, {other} and {message} stand for ids. "two" receives the pushes of the first room.
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
# Request ids: any scalar is returned unchanged.
IDS = [1500000, "a text", "ü", None, True, 1.5, ""]

# Intended differences of Roomcast, by the frame that is sent. api/docs/match.md lists them too.
DIFFERENCES = {
    '{"action": null}': "answered like a frame without `action`, since an action must be a text",
    '{"action": 5}': "the same; the original shows the value as Python writes it",
}


def normalised(value, rooms, messages):
    """Replaces values that each server chooses by itself, or that the document leaves open, so that both are equal."""
    if isinstance(value, dict):
        if "participants" in value or value.keys() >= {"id", "business"}:
            value = {key: value[key] for key in value if key in ("pk", "participants", "has_business", "id")}
        result = {}
        for key, inner in value.items():
            if key in ("pk", "room_id"):
                result[key] = f"<room {rooms.index(inner)}>"
            elif key == "created_at":
                result[key] = "<moment>"
            elif key == "response":
                result[key] = inner.replace(f"room {rooms[0]}", "<room 0>").replace(f"room {rooms[1]}", "<room 1>")
            elif key == "message_id" or key == "id" and "text" in value:
                result[key] = f"<message {messages.index(inner)}>"
            elif key == "messages_ids":
                result[key] = [f"<message {messages.index(message)}>" for message in inner]
            else:
                result[key] = normalised(inner, rooms, messages)
        return result
    if isinstance(value, list):
        # The document specifies no order of rooms or participants.
        return sorted((normalised(inner, rooms, messages) for inner in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def filled(value, rooms, messages):
    places = {"{room}": rooms[0], "{other}": rooms[1], "{message}": messages[-1] if messages else None}
    if isinstance(value, list):
        return [filled(inner, rooms, messages) for inner in value]
    return places.get(value, value) if isinstance(value, str) else value


async def play(address, rooms):
    sockets, answers, messages = {}, [], []
    # All users connect once first: the server learns their attributes from their tokens.
    for name, (path, secret) in {"one": ONE, "two": TWO, "three": THREE, "admin": ADMIN}.items():
        headers = {"Authorization": f"Bearer {secret}", "Origin": f"http://{address}"}
        sockets[name] = await websockets.connect(f"ws://{address}{path}", extra_headers=headers)
    for number, (sender, frame) in enumerate(FRAMES):
        request = {key: filled(value, rooms, messages) for key, value in frame.items()}
        await sockets[sender].send(json.dumps(request | {"request_id": IDS[number % len(IDS)]}))
        answer = json.loads(await asyncio.wait_for(sockets[sender].recv(), 10))
        if answer["action"] == "create_message" and answer["data"]:
            messages.append(answer["data"]["id"])
        answers.append(normalised(answer, rooms, messages))
    # The pushes that "two" received meanwhile, in their order.
    pushes = []
    while True:
        try:
            pushes.append(json.loads(await asyncio.wait_for(sockets["two"].recv(), 1)))
        except asyncio.TimeoutError:
            break
    for socket in sockets.values():
        await socket.close()
    return answers + [[normalised(frame, rooms, messages) for frame in pushes]]


async def main():
    original, ours = await play(sys.argv[1], [1, 2]), await play(sys.argv[2], ROOMS)
    different = 0
    for number, (theirs, mine) in enumerate(zip(original, ours)):
        frame = json.dumps(FRAMES[number][1]) if number < len(FRAMES) else "the pushes to two"
        if (theirs == mine) == (frame in DIFFERENCES):
            different += 1
            print(f"{number} {frame}:\n  original {json.dumps(theirs)}\n  Roomcast {json.dumps(mine)}")
    print(f"{len(FRAMES)} frames, {different} answers differ, {len(DIFFERENCES)} are listed")
    sys.exit(1 if different else 0)


asyncio.run(main())
