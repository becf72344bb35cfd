#!/usr/bin/env python3
"""A conversation by clients that are not ours: curl, and Python's websockets.

Reads what to do as one line of JSON, prints how many messages are acknowledged as it goes, and at the end,
as one line of JSON, what was acknowledged and what each reader saw. Needs Debian's python3-websockets.
"""

import asyncio
import json
import sys

import websockets

TASK = json.loads(sys.stdin.readline())
ROOMS = TASK["rooms"]
acknowledged = {room: set() for room in ROOMS}
resumes = 0


def say(fact):
    print(json.dumps(fact), flush=True)


def acknowledge(room, message):
    acknowledged[room].add(message)
    count = sum(map(len, acknowledged.values()))
    if count % 500 == 0:
        say({"acknowledged": count})


def share(writer):
    """The messages of one writer: (room, its key in that room)."""
    count = TASK["messages"] // TASK["writers"]
    return [(ROOMS[(writer + n) % len(ROOMS)], f"w{writer}-{n}") for n in range(count)]


def connect(node, person):
    address = TASK["fanout"][node % len(TASK["fanout"])]
    headers = {"Authorization": f"Bearer {TASK['tokens'][person]}"}
    return websockets.connect(f"ws://{address}/ws/", extra_headers=headers, max_queue=None)


async def by_curl(writer):
    """One curl with many requests; what was not acknowledged is sent again under its key."""
    api = TASK["api"][writer % len(TASK["api"])]
    left = share(writer)
    while left:
        requests = [
            f'url = "http://{api}/api/v1/rooms/{room}/messages"\n'
            f'header = "Authorization: Bearer {TASK["tokens"][f"writer{writer}"]}"\n'
            'header = "Content-Type: application/json"\n'
            f'data = "{{\\"message\\": \\"{key}\\", \\"client_id\\": \\"{key}\\"}}"\n'
            'write-out = "\\n"\n'
            for room, key in left[:100]
        ]
        curl = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--config", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await curl.communicate("next\n".join(requests).encode())
        answers = [json.loads(line) for line in output.splitlines() if line]
        done = {(answer["room"], answer["message"]): answer["id"] for answer in answers if "id" in answer}
        for (room, _), message in done.items():
            acknowledge(room, message)
        left = [message for message in left if message not in done]


async def by_socket(writer):
    """A socket that is opened anew, elsewhere, where its node dies."""
    left, node = share(writer), writer
    while left:
        try:
            async with connect(node, f"writer{writer}") as socket:
                while left:
                    room, key = left[0]
                    frame = {"action": "create_message", "room_pk": room, "msg_text": key, "client_id": key}
                    await socket.send(json.dumps(frame | {"request_id": key}))
                    answer = {}
                    while answer.get("request_id") != key:
                        answer = json.loads(await socket.recv())
                    if answer["response_status"] == 201:
                        acknowledge(room, answer["data"]["id"])
                        left.pop(0)
        except (OSError, websockets.WebSocketException):
            node += 1
            await asyncio.sleep(0.05)


async def read(reader):
    """Follows all rooms until it has every message; what it sees is not corrected."""
    global resumes
    seen = {room: [] for room in ROOMS}
    begun, node = {}, reader
    while sum(map(len, seen.values())) < TASK["messages"]:
        try:
            async with connect(node, f"reader{reader}") as socket:
                for room in ROOMS:
                    frame = {"action": "subscribe", "channel": f"room-{room}", "request_id": room}
                    if room in begun:
                        frame |= {"since": (seen[room] or [begun[room]["id"]])[-1], "epoch": begun[room]["epoch"]}
                    await socket.send(json.dumps(frame))
                while sum(map(len, seen.values())) < TASK["messages"]:
                    frame = json.loads(await socket.recv())
                    if frame.get("action") == "subscribe":
                        assert frame["data"]["recovered"], frame
                        begun.setdefault(frame["request_id"], frame["data"])
                        if len(begun) == len(ROOMS):
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
    say({"acknowledged": 0})
    await asyncio.gather(*((by_curl, by_socket)[n % 2](n) for n in range(TASK["writers"])))
    seen = await asyncio.gather(*readers)
    written = {room: sorted(ids) for room, ids in acknowledged.items()}
    say({"end": {"written": written, "seen": seen, "resumes": resumes}})


ready = asyncio.Semaphore(0)
asyncio.run(main())
