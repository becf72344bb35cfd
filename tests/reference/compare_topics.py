#!/usr/bin/env python3
"""Sends the same requests to an original server and to Roomcast, and prints the differences.

Run: compare_topics.py <original's address> <Roomcast's address> <secret>. The exit code is 1 if an answer differs that
is not in DIFFERENCES. Values that each server chooses by itself (ids, times, hosts, file names) are compared
only by their form. Needs only Python's standard library.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib

sys.dont_write_bytecode = True
import generated_topics

SECRET = sys.argv[3]
# Headers that clients read. `Allow` is compared only in answers with 405.
HEADERS = ["Content-Type", "WWW-Authenticate"]


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(**claims):
    head = part(b'{"alg":"HS256","typ":"JWT"}')
    claims = {"exp": int(time.time()) + 3600, "token_type": "access", "jti": "j"} | claims
    body = part(json.dumps({k: v for k, v in claims.items() if v is not None}).encode())
    sign = hmac.new(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{part(sign)}"


ANN, BOB = token(user_id="1", username="ann", iat=1), token(user_id="2", username="bob", iat=1)


def png():
    """A PNG picture of one pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def multipart(fields, files=()):
    lines = []
    for name, value in fields.items():
        lines.append(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, file, data in files:
        disposition = f'form-data; name="{name}"; filename="{file}"'
        lines.append(
            f"--b\r\nContent-Disposition: {disposition}\r\nContent-Type: image/png\r\n\r\n".encode() + data + b"\r\n"
        )
    return b"".join(lines) + b"--b--\r\n", "multipart/form-data; boundary=b"


def send(base, method, path, token=ANN, body=None, kind="application/json", scheme="Bearer", accept=None):
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    request = urllib.request.Request(base + path, data=body, method=method)
    if body is not None:
        request.add_header("Content-Type", kind)
    if accept is not None:
        request.add_header("Accept", accept)
    if token is not None:
        request.add_header("Authorization", f"{scheme} {token}".strip())
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    headers = {name: answer.headers.get(name) for name in HEADERS}
    if answer.status == 405:
        methods = {method.strip() for method in answer.headers.get("Allow", "").split(",")}
        headers["Allow"] = sorted(methods - {"OPTIONS", "HEAD"})
    return answer.status, headers, value


def normalised(value, base):
    """Replaces values that each server chooses by itself, so that both are equal."""
    if isinstance(value, dict):
        return {key: "<id>" if key == "id" else normalised(inner, base) for key, inner in value.items()}
    if isinstance(value, list):
        return [normalised(inner, base) for inner in value]
    if isinstance(value, str):
        value = value.replace(base, "<base>")
        value = re.sub(r"/chat/(\w+)/\d+/", r"/chat/\1/<id>/", value)
        value = re.sub(r"/media/chat_img/default\.\w+$", "<default picture>", value)
        value = re.sub(r"(/media/chat_img/)[^/]+$", r"\1<name>", value)
        value = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<moment>", value)
    return value


CHAT = "/api/chat/"
BOTH = {"title": "Harry Potter", "room": "films"}

# Name, method, path, and other arguments of `send`. `{id}` is the first chat that was created.
CASES = [
    ("created", "POST", CHAT, dict(body=BOTH | {"description": "Discussion of characters"})),
    ("the same title", "POST", CHAT, dict(body=BOTH)),
    ("the same title, with spaces", "POST", CHAT, dict(body=BOTH | {"title": "  Harry Potter "})),
    ("another case of letters", "POST", CHAT, dict(body=BOTH | {"title": "harry potter"})),
    ("the same title elsewhere", "POST", CHAT, dict(body=BOTH | {"room": "books"})),
    ("nothing", "POST", CHAT, dict(body={})),
    ("no body", "POST", CHAT, dict()),
    ("a list", "POST", CHAT, dict(body=[])),
    ("a text", "POST", CHAT, dict(body='"x"')),
    ("a body that is not JSON", "POST", CHAT, dict(body="{")),
    ("wrong room", "POST", CHAT, dict(body={"title": "x", "room": "movie"})),
    ("nulls", "POST", CHAT, dict(body={"title": None, "room": None, "description": None, "img": None})),
    ("null for a picture", "POST", CHAT, dict(body={"title": "no picture", "room": "games", "img": None})),
    ("blanks", "POST", CHAT, dict(body={"title": "  ", "room": "", "description": ""})),
    ("blank description", "POST", CHAT, dict(body={"title": "blank", "room": "music", "description": " "})),
    ("numbers", "POST", CHAT, dict(body={"title": 5, "room": "music", "description": 6})),
    ("booleans as values", "POST", CHAT, dict(body={"title": True, "room": True, "description": True})),
    ("lists as values", "POST", CHAT, dict(body={"title": ["a"], "room": ["films"], "description": {}})),
    ("too long", "POST", CHAT, dict(body={"title": "x" * 71, "room": "films", "description": "y" * 401})),
    ("U+0000", "POST", CHAT, dict(body={"title": "a\0b", "room": "films"})),
    ("a file's name", "POST", CHAT, dict(body={"title": "img", "room": "films", "img": "file.jpeg"})),
    ("form", "POST", CHAT, dict(body="title=Form&room=games", kind="application/x-www-form-urlencoded")),
    ("text/plain", "POST", CHAT, dict(body="x", kind="text/plain")),
    ("a picture", "POST", CHAT, "picture"),
    ("no picture", "POST", CHAT, "broken"),
    ("an empty picture", "POST", CHAT, "empty"),
    ("no token", "POST", CHAT, dict(token=None, body=BOTH)),
    ("a bad token", "POST", CHAT, dict(token="x.y.z", body=BOTH)),
    ("an expired token", "POST", CHAT, dict(token=token(user_id="1", exp=1), body=BOTH)),
    ("a refresh token", "POST", CHAT, dict(token=token(user_id="1", token_type="refresh"), body=BOTH)),
    ("a token without a person", "POST", CHAT, dict(token=token(), body=BOTH)),
    ("no value", "POST", CHAT, dict(token="", body=BOTH)),
    ("three words", "POST", CHAT, dict(token="a b", body=BOTH)),
    ("get of the whole", "GET", CHAT, dict()),
    ("delete of the whole", "DELETE", CHAT, dict()),
    ("a room", "GET", CHAT + "films/", dict(token=None)),
    ("an empty room", "GET", CHAT + "books/?page=1", dict()),
    ("no room", "GET", CHAT + "movies/", dict(token=None)),
    ("no page", "GET", CHAT + "films/?page=9", dict()),
    ("no page's number", "GET", CHAT + "films/?page=x", dict()),
    ("the last page", "GET", CHAT + "films/?page=last", dict()),
    ("post to a room", "POST", CHAT + "films/", dict(body=BOTH)),
    ("changed", "PATCH", CHAT + "films/{id}/", dict(body={"description": "Chat description"})),
    ("changed to nothing", "PATCH", CHAT + "films/{id}/", dict(body={"description": None})),
    ("nothing changed", "PATCH", CHAT + "films/{id}/", dict(body={})),
    ("the title stays", "PATCH", CHAT + "films/{id}/", dict(body={"title": "Other", "description": "d"})),
    ("too long a change", "PATCH", CHAT + "films/{id}/", dict(body={"description": "y" * 401})),
    ("someone else's", "PATCH", CHAT + "films/{id}/", dict(token=BOB, body={"description": "mine"})),
    ("nobody's", "PATCH", CHAT + "films/{id}/", dict(token=None, body={"description": "mine"})),
    ("a chat in another room", "PATCH", CHAT + "music/{id}/", dict(body={"description": "d"})),
    ("an unknown chat", "PATCH", CHAT + "films/999999/", dict(body={"description": "d"})),
    ("get of one", "GET", CHAT + "films/{id}/", dict()),
    ("a picture named a.txt", "POST", CHAT, ("img", 'filename="a.txt"')),
    ("a file name in Latin-1", "POST", CHAT, ("img", 'filename="b\xfccher.png"')),
    ("OPTIONS", "OPTIONS", CHAT, dict()),
    ("an unknown format", "GET", CHAT + "films/?format=api", dict()),
    ("the format there is", "GET", CHAT + "films/?format=json", dict()),
    ("Accept: text/html", "GET", CHAT + "films/", dict(accept="text/html")),
    ("JSON is accepted", "GET", CHAT + "films/", dict(accept="text/html, application/json;q=0.1")),
    ("all is accepted", "GET", CHAT + "films/", dict(accept="text/html, application/*;q=0")),
    ("DELETE without a token", "DELETE", CHAT, dict(token=None)),
    ("post to a room without a token", "POST", CHAT + "films/", dict(token=None, body=BOTH)),
    ("put of one", "PUT", CHAT + "films/{id}/", dict(body=BOTH)),
    ("PUT of a chat without a token", "PUT", CHAT + "films/{id}/", dict(token=None, body=BOTH)),
    ("DELETE with a bad token", "DELETE", CHAT + "films/", dict(token="x.y.z")),
]

# Intended differences of Roomcast. api/docs/topics.md lists them too.
DIFFERENCES = {
    "a body that is not JSON": "the reason has the words of another parser",
    "blank description": "answered as `null`: an empty description counts as none",
    "booleans as values": "the error shows the wrong value as JSON, not as Python writes it",
    "lists as values": "the error shows the wrong value as JSON, not as Python writes it",
    "a token without a person": "answered like any token that is not valid",
    "a chat in another room": "`Not found.`, without the name of a class",
    "an unknown chat": "`Not found.`, without the name of a class",
    "a picture named a.txt": "the picture is accepted: its content counts, not its name",
    "a file name in Latin-1": "the picture is accepted; the original ignores it without an error",
    "OPTIONS": "405; `/openapi.json` describes the addresses",
    "an unknown format": "`?format=` is ignored: every answer is JSON",
    "Accept: text/html": "`Accept` is ignored: every answer is JSON",
    "DELETE without a token": "405 for a method that does not exist, with or without a valid token",
    "PUT of a chat without a token": "405 for a method that does not exist, with or without a valid token",
    "DELETE with a bad token": "405 for a method that does not exist, with or without a valid token",
}


def run(base):
    answers, first = {}, None
    for name, method, path, more in CASES:
        if more == "picture":
            body, kind = multipart({"title": "Picture", "room": "films"}, [("img", "a b.png", png())])
            more = dict(body=body, kind=kind)
        elif more == "broken":
            body, kind = multipart({"title": "Broken", "room": "films"}, [("img", "a.png", b"no picture")])
            more = dict(body=body, kind=kind)
        elif isinstance(more, tuple):
            body, kind = multipart({"title": name, "room": "books"}, [("img", "file", png())])
            more = dict(body=body.replace(b'filename="file"', more[1].encode("latin-1")), kind=kind)
        elif more == "empty":
            body, kind = multipart({"title": "Empty", "room": "films"}, [("img", "a.png", b"")])
            more = dict(body=body, kind=kind)
        status, headers, value = send(base, method, path.replace("{id}", str(first)), **more)
        if name == "created":
            first = value["chat"]["id"]
        answers[name] = (status, headers, normalised(value, base))
    return answers


CASES += generated_topics.cases(CHAT, png())


original, ours = run(sys.argv[1]), run(sys.argv[2])
different = 0
for name, *_ in CASES:
    if original[name] != ours[name] and name not in DIFFERENCES:
        different += 1
        print(f"{name}:\n  original {original[name]}\n  Roomcast {ours[name]}")
    elif original[name] == ours[name] and name in DIFFERENCES:
        different += 1
        print(f"{name}: is listed as different, but is equal")
print(f"{len(CASES)} cases, {different} differ, {len(DIFFERENCES)} are listed")
sys.exit(1 if different else 0)
