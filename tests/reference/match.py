"""Implements the original of the match dialect, as its document describes it, on djangochannelsrestframework.

Written only for the comparison: Roomcast must give the same answers.
Run: match.py <port> <secret>
"""

import sys

PORT, SECRET = int(sys.argv[1]), sys.argv[2]

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=SECRET,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    USE_TZ=True,
)
django.setup()

from datetime import datetime, timezone

import jwt
from channels.exceptions import DenyConnection
from channels.routing import ProtocolTypeRouter, URLRouter
from django.http import Http404
from django.urls import path
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from djangochannelsrestframework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError

BRANDS = {n: {"id": n, "business": n == 1} for n in (1, 2, 3)}
ROOMS = {1: (1, 2), 2: (2, 3)}
MESSAGES = {}


def described(pk):
    two = [BRANDS[user] for user in ROOMS[pk]]
    return {"pk": pk, "participants": two, "has_business": any(brand["business"] for brand in two)}


class Chat(AsyncAPIConsumer):
    permission_classes = []
    is_admin = False

    async def connect(self):
        header = dict(self.scope["headers"]).get(b"authorization", b"").decode()
        try:
            claims = jwt.decode(header.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
        except jwt.PyJWTError:
            raise DenyConnection
        if self.is_admin and not claims.get("is_admin"):
            raise DenyConnection
        self.user, self.room = int(claims["user_id"]), None
        await self.accept()

    def joined(self):
        if self.room is None:
            raise ValidationError("This socket is in no room: join one first.")
        return self.room

    def writable(self):
        room = self.joined()
        if self.is_admin and not described(room)["has_business"]:
            raise PermissionDenied
        return room

    def message(self, pk):
        if MESSAGES.get(pk, {}).get("room") != self.room:
            raise Http404
        return MESSAGES[pk]

    async def push(self, action, status, data, request_id):
        frame = dict(errors=[], data=data, action=action, response_status=status, request_id=request_id)
        await self.channel_layer.group_send(f"room-{self.room}", {"type": "room.push", "frame": frame})

    async def room_push(self, event):
        await self.send_json(event["frame"])

    @action()
    async def list(self, **kwargs):
        return [described(pk) for pk in ROOMS if self.is_admin or self.user in ROOMS[pk]], 200

    @action()
    async def join_room(self, room_pk, **kwargs):
        if room_pk not in ROOMS:
            raise Http404
        if not self.is_admin and self.user not in ROOMS[room_pk]:
            raise PermissionDenied
        if self.room is not None:
            await self.channel_layer.group_discard(f"room-{self.room}", self.channel_name)
        self.room = room_pk
        await self.channel_layer.group_add(f"room-{room_pk}", self.channel_name)
        return described(room_pk), 200

    @action()
    async def leave_room(self, **kwargs):
        room, self.room = self.joined(), None
        await self.channel_layer.group_discard(f"room-{room}", self.channel_name)
        return {"response": f"leaved room {room} successfully!"}, 200

    @action()
    async def create_message(self, msg_text, request_id=None, **kwargs):
        room = self.writable()
        if not msg_text.strip():
            raise ValidationError("message: must not be blank.")
        pk = len(MESSAGES) + 1
        MESSAGES[pk] = {"room": room, "user": self.user, "text": msg_text}
        data = {
            "text": msg_text,
            "user": BRANDS.get(self.user, {"id": self.user}),
            "created_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "room": described(room),
            "id": pk,
        }
        await self.push("create_message", 201, data, request_id)

    @action()
    async def edit_message(self, msg_id, edited_msg_text, request_id=None, **kwargs):
        room, message = self.writable(), self.message(msg_id)
        if message["user"] != self.user:
            raise PermissionDenied
        data = {"room_id": room, "message_id": msg_id, "message_text": edited_msg_text}
        await self.push("edit_message", 200, data, request_id)

    @action()
    async def delete_messages(self, msg_id_list, request_id=None, **kwargs):
        room = self.writable()
        for pk in msg_id_list:
            if self.message(pk)["user"] != self.user and not self.is_admin:
                raise PermissionDenied
        await self.push("delete_messages", 200, {"room_id": room, "messages_ids": msg_id_list}, request_id)


class UserChat(Chat):
    @action()
    async def current_room_info(self, **kwargs):
        return described(self.joined()), 200


class AdminChat(Chat):
    is_admin = True


application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("ws/chat/", UserChat.as_asgi()), path("ws/admin-chat/", AdminChat.as_asgi())])}
)

if __name__ == "__main__":
    from daphne.server import Server

    print("ready", flush=True)
    Server(application, endpoints=[f"tcp:port={PORT}:interface=127.0.0.1"], verbosity=0).run()
