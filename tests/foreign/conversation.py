#!/usr/bin/env python3
"""Runs a conversation with third-party clients: curl, and Python's websockets.

Reads its task as one line of JSON. Prints the number of acknowledged messages while it runs, and at the end
one line of JSON with the acknowledged messages and those that each reader received. Needs Debian's python3-websockets.
"""

import asyncio
import json
import sys

import websockets

TASK = json.loads(sys.stdin.readline())
ROOMS = TASK["rooms"]
acknowledged = {room: set() for room in ROOMS}
resumes = 0


def report(fact):
    print(json.dumps(fact), flush=True)


def acknowledge(room, message):
    acknowledged[room].add(message)
    count = sum(map(len, acknowledged.values()))
    if count % 500 == 0:
        report({"acknowledged": count})


def messages_of(writer):
    """The messages of one writer, as pairs of room and key."""
    count = TASK["messages"] // TASK["writers"]
    return [(ROOMS[(writer + n) % len(ROOMS)], f"w{writer}-{n}") for n in range(count)]


def connect(node, person):
    address = TASK["fanout"][node % len(TASK["fanout"])]
    headers = {"Authorization": f"Bearer {TASK['tokens'][person]}"}
    return websockets.connect(f"ws://{address}/ws/", extra_headers=headers, max_queue=None)


async def by_curl(writer):
    """Sends messages by curl, many requests in one process; sends unacknowledged ones again under their keys."""
    api = TASK["api"][writer % len(TASK["api"])]
    unsent = messages_of(writer)
    while unsent:
        requests = [
            f'url = "http://{api}/api/v1/rooms/{room}/messages"\n'
            f'header = "Authorization: Bearer {TASK["tokens"][f"writer{writer}"]}"\n'
            'header = "Content-Type: application/json"\n'
            f'data = "{{\\"message\\": \\"{key}\\", \\"client_id\\": \\"{key}\\"}}"\n'
            'write-out = "\\n"\n'
            for room, key in unsent[:100]
        ]
        curl = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--config", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await curl.communicate("next\n".join(requests).encode())
        answers = [json.loads(line) for line in output.splitlines() if line]
        stored = {(answer["room"], answer["message"]): answer["id"] for answer in answers if "id" in answer}
        for (room, _), message in stored.items():
            acknowledge(room, message)
        unsent = [message for message in unsent if message not in stored]


async def by_socket(writer):
    """Sends messages by a socket, which is opened on another node if its node dies."""
    unsent, node = messages_of(writer), writer
    while unsent:
        try:
            async with connect(node, f"writer{writer}") as socket:
                while unsent:
                    room, key = unsent[0]
                    frame = {"action": "create_message", "room_pk": room, "msg_text": key, "client_id": key}
                    await socket.send(json.dumps(frame | {"request_id": key}))
                    answer = {}
                    while answer.get("request_id") != key:
                        answer = json.loads(await socket.recv())
                    if answer["response_status"] == 201:
                        acknowledge(room, answer["data"]["id"])
                        unsent.pop(0)
        except (OSError, websockets.WebSocketException):
            node += 1
            await asyncio.sleep(0.05)


async def read(reader):
    """Follows all rooms until it has every message. It neither sorts nor deduplicates them."""
    global resumes
    seen = {room: [] for room in ROOMS}
    subscribed, node = {}, reader
    while sum(map(len, seen.values())) < TASK["messages"]:
        try:
            async with connect(node, f"reader{reader}") as socket:
                for room in ROOMS:
                    frame = {"action": "subscribe", "channel": f"room-{room}", "request_id": room}
                    if room in subscribed:
                        position = subscribed[room]
                        frame |= {"since": (seen[room] or [position["id"]])[-1], "epoch": position["epoch"]}
                    await socket.send(json.dumps(frame))
                while sum(map(len, seen.values())) < TASK["messages"]:
                    frame = json.loads(await socket.recv())
                    if frame.get("action") == "subscribe":
                        assert frame["data"]["recovered"], frame
                        subscribed.setdefault(frame["request_id"], frame["data"])
                        if len(subscribed) == len(ROOMS):
                            ready.release()
                    elif frame.get("event") == "chat-message":
                        seen[frame["data"]["room"]].append(frame["id"])
        except (OSError, websockets.WebSocketException):
            resumes += 1
            node += 1
            await asyncio.sleep(0.05)
    return seen


async def main():
    readers = [asyncio.create_task(read(reader)) for reader in range(TASK["readers"])]
    for _ in readers:
        await ready.acquire()
    report({"acknowledged": 0})
    await asyncio.gather(*((by_curl, by_socket)[n % 2](n) for n in range(TASK["writers"])))
    seen = await asyncio.gather(*readers)
    written = {room: sorted(ids) for room, ids in acknowledged.items()}
    report({"end": {"written": written, "seen": seen, "resumes": resumes}})


ready = asyncio.Semaphore(0)
asyncio.run(main())
