"""Generates requests to the topics dialect, the same ones each time: values, forms, parts and pages of every kind.

`cases(...)` yields (name, method, path, other arguments), like CASES in compare_topics.py.
"""

import base64
import json
import random
from urllib.parse import quote_plus

# Values as JSON: numbers of every form, halves of surrogate pairs, spaces of every kind, lengths at the limits.
VALUES = [
    '"plain"', '"  spaces  "', '"\\t\\n\\u00a0\\u2003x\\u3000"', '"\\u001c\\u001fy"', '"\\u200b"', '"\\ufeffz"', '""',
    '"a\\u0000b"', '"\\ud800"', '"a\\udfffb\\ud83d"', '"\\ud83d\\ude00"', '"x\\ud83d\\ud83d\\ude00"',
    '"' + "\\ud800" * 71 + '"', '"' + "\\u0000" * 401 + '"', '"' + "\U0001f600" * 70 + '"', '"' + "\U0001f600" * 71 + '"',
    '"' + "y" * 400 + '"', '"' + "y" * 401 + '"', '"' + " " * 500 + 'w"', '"\\u2028\\u0085v"', '"<b>&amp;\'\\"</b>"',
    "0", "-0", "5", "-7", "123456789012345678901234567890", "0.0", "-0.0", "1.0", "1.50", "1e2", "1E+2", "1e15", "1e16",
    "5.96e29", "5.96e+29", "1e-4", "1e-5", "0.1", "1e400", "-1e400", "0.30000000000000004", "2.5e-8", "1e22", "1e23",
    "9007199254740993.0", "null", "true", "false", "[]", '["a"]', "{}", '{"a": 1}',
]
ROOMS = ['"films"', '"music"', '"books"', '"games"', '" films"', '"Films"', '""', "null", "5", "5.96e29", '"movie"']
FIELDS = ["title", "room", "description"]


def is_shown_differently(value):
    """Whether Roomcast shows an invalid choice differently from Python: a listed difference."""
    return value[0] in "tf[{" or "\\ud" in value


def to_json(fields):
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}"


def bodies(dice):
    """JSON bodies: every value as a title, then random fields, with repeated and unknown ones."""
    for number, value in enumerate(VALUES):
        yield to_json([("title", value), ("room", ROOMS[number % 4])])
    for _ in range(50):
        fields = []
        for name in dice.sample(FIELDS + ["more"], dice.randint(0, 4)) + dice.sample(FIELDS, dice.randint(0, 1)):
            value = dice.choice(ROOMS if name == "room" else VALUES)
            # Roomcast stores a blank description as none: a listed difference.
            blank = name == "description" and value.startswith('"') and not json.loads(value).strip()
            if not blank and not (name == "room" and is_shown_differently(value)):
                fields.append((name, value))
        yield to_json(fields)


def forms(dice):
    texts = ["a", "", " b ", "ü", "5.96e29", "x" * 71, "films", "music", "\0", "a+b", "a%b", "日本", "&=;"]
    for _ in range(24):
        pairs = [(dice.choice(FIELDS[:2]), dice.choice(texts)) for _ in range(dice.randint(0, 4))]
        yield "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    yield from ["title", "title=", "=x", "&&", "title=a%zz&room=films", "title=%ff%fe&room=films", "title=t;room=films"]


DISPOSITIONS = [
    'form-data; name="img"; filename="a.png"',
    'form-data; filename="b.png"; name="img"',
    "form-data; name=img; filename=c.png",
    'FORM-DATA; NAME="img"; FILENAME="d.png"',
    "form-data; name=\"img\"; filename*=utf-8''e.png",
    "form-data; filename*=UTF-8'en'f%20g.png; name=\"img\"",
    "form-data; filename*=utf-8''h.png; filename=\"\"; name=\"img\"",
    'form-data; name="img"; filename="i.png"; filename*=utf-8\'\'',
    'form-data; name="img"; filename*0="j."; filename*1="png"',
    "form-data; name*=utf-8''img; filename=\"k.png\"",
    'form-data; name="img"; filename="C:\\\\dir\\\\l.png"',
    'form-data; name="img"; filename="m\\"n.png"',
    'form-data; name="img"; filename="o;p=q.png"',
    'form-data; name="img"; filename="日本.png"',
    'form-data; name="img"; filename=""',
    'form-data; name="img"; filename=".."',
    'form-data; name="img"; filename="dir/"',
    'form-data; name="img"',
    'form-data; name=" img "; filename="r.png"',
    'attachment; name="img"; filename="s.png"',
    'name="img"; filename="t.png"',
    "form-data",
]


def part(headers, data):
    return b"--b\r\n" + headers.encode() + b"\r\n\r\n" + data + b"\r\n"


def multiparts(picture):
    for number, disposition in enumerate(DISPOSITIONS):
        for data in [picture] if number % 2 else [picture, b""]:
            yield disposition, part(f"Content-Disposition: {disposition}\r\nContent-Type: image/png", data)
    encoded = "form-data; name=\"img\"; filename=\"u.png\"\r\nContent-Transfer-Encoding: base64"
    yield "base64", part(f"Content-Disposition: {encoded}", base64.encodebytes(picture).replace(b"\n", b"\r\n"))
    yield "no base64", part(f"Content-Disposition: {encoded}", b"abc")
    title = part('content-disposition: form-data; name="title"', b"again")
    yield "a title twice", title
    file = part('Content-Disposition: form-data; name="title"; filename="x"', b"text")
    yield "a file for a title", file
    yield "a file, then text", part('Content-Disposition: form-data; name="img"; filename="x.png"', picture) + part(
        'Content-Disposition: form-data; name="img"', b""
    )


PAGES = ["1", "2", "0", "-1", "01", "1.0", "1e0", "", "last", "Last", " 1", "+1", "1_0", "٣", "99999999999999999999", "1&page=2", "x&page=1"]


def cases(chat, picture):
    dice = random.Random(21)
    for number, body in enumerate(bodies(dice)):
        yield f"json {number} {body[:70]}", "POST", chat, dict(body=body)
    for number, body in enumerate(forms(dice)):
        yield f"form {number} {body[:70]}", "POST", chat, dict(body=body, kind="application/x-www-form-urlencoded")
    for number, (name, parts) in enumerate(multiparts(picture)):
        head = part('Content-Disposition: form-data; name="title"', f"part {number}".encode())
        head += part('Content-Disposition: form-data; name="room"', b"games")
        body = head + parts + b"--b--\r\n"
        yield f"part {number} {name[:70]}", "POST", chat, dict(body=body, kind="multipart/form-data; boundary=b")
    for value in VALUES:
        if not (value.startswith('"') and not json.loads(value).strip()):
            yield f"change {value[:70]}", "PATCH", chat + "films/{id}/", dict(body=f'{{"description": {value}}}')
    for page in PAGES:
        yield f"page {page}", "GET", chat + "films/?page=" + page.replace(" ", "%20").replace("٣", "%D9%A3"), dict()
