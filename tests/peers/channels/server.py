"""Serves rooms with Django Channels as in its tutorial: a room is a group in Redis.

daphne runs `server:application`; CHANNELS_REDIS is the port of Redis.
"""

import os

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

# Each waiting socket holds a connection; the default maximum is 100.
REDIS = {"address": f"redis://127.0.0.1:{os.environ['CHANNELS_REDIS']}", "max_connections": 100_000}

settings.configure(
    SECRET_KEY="not a secret: nothing is signed here",
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS]},
        }
    },
)
django.setup()


class Room(AsyncWebsocketConsumer):
    """A socket: each of its messages is sent to its group."""

    async def connect(self):
        self.room = f"room-{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(self.room, {"type": "said", "text": text_data})

    async def said(self, event):
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter({"websocket": URLRouter([path("<int:room>", Room.as_asgi())])})
