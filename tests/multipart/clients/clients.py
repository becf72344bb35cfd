"""Sends forms with Python's HTTP clients, and with Django's test client."""

import asyncio
import sys
from pathlib import Path

import aiohttp
import django
import httpx
import requests
import urllib3
from django.conf import settings
from urllib3.fields import RequestField, format_header_param_rfc2231

base, kind, file = sys.argv[1:]
name, data = Path(file).name, Path(file).read_bytes()


def fields(client):
    return {"title": f"{client} {kind}", "room": "films"}


requests.post(f"{base}/requests-{kind}", data=fields("requests"), files={"img": open(file, "rb")})
httpx.post(f"{base}/httpx-{kind}", data=fields("httpx"), files={"img": open(file, "rb")})
urllib3.request(
    "POST", f"{base}/urllib3-{kind}", fields={"img": (name, data, "image/png"), **fields("urllib3")}
)

# Like urllib3 before 2.0, and requests on it.
field = RequestField("img", data, filename=name, header_formatter=format_header_param_rfc2231)
field.make_multipart(content_type="image/png")
body, header = urllib3.encode_multipart_formdata([*fields("urllib3-rfc2231").items(), field])
urllib3.request("POST", f"{base}/urllib3-rfc2231-{kind}", body=body, headers={"Content-Type": header})


async def with_aiohttp(client, **more):
    form = aiohttp.FormData(**more)
    for key, value in fields(client).items():
        form.add_field(key, value)
    form.add_field("img", data, filename=name, content_type="image/png")
    async with aiohttp.ClientSession() as session, session.post(f"{base}/{client}-{kind}", data=form):
        pass


asyncio.run(with_aiohttp("aiohttp"))
asyncio.run(with_aiohttp("aiohttp-unquoted", quote_fields=False))

settings.configure()
django.setup()
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

picture = SimpleUploadedFile(name, data, "image/png")
body = encode_multipart(BOUNDARY, fields("django") | {"img": picture})
requests.post(f"{base}/django-{kind}", data=body, headers={"Content-Type": MULTIPART_CONTENT})
