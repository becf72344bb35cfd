"""Implements the original of the topics dialect, as its document describes it, on Django REST Framework.

Written only for the comparison: Roomcast must give the same answers.
Run: topics.py <port> <secret> <folder>
"""

import sys
from pathlib import Path

PORT, SECRET, FOLDER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=SECRET,
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}},
    MEDIA_ROOT=FOLDER / "media",
    MEDIA_URL="/media/",
    USE_TZ=True,
    TIME_ZONE="UTC",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
        "PAGE_SIZE": 100,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    SIMPLE_JWT={"SIGNING_KEY": SECRET},
)
django.setup()

from django.contrib.auth.models import User
from django.db import connection, models
from django.urls import path
from rest_framework import generics, permissions, serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

ROOMS = ["films", "music", "books", "games"]


class Chat(models.Model):
    title = models.CharField(max_length=70)
    room = models.CharField(max_length=10, choices=[(room, room) for room in ROOMS])
    img = models.ImageField(upload_to="chat_img", default="chat_img/default.jpg")
    creator = models.ForeignKey(User, on_delete=models.CASCADE)
    description = models.CharField(max_length=400, null=True, blank=True)
    timestamp = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "topics"
        constraints = [models.UniqueConstraint(fields=["room", "title"], name="title_in_room")]


class ChatSerializer(serializers.ModelSerializer):
    creator = serializers.CharField(source="creator.username", read_only=True)
    url = serializers.SerializerMethodField()

    class Meta:
        model = Chat
        fields = ["id", "title", "room", "img", "creator", "description", "url", "timestamp"]
        validators = [
            serializers.UniqueTogetherValidator(queryset=Chat.objects.all(), fields=["room", "title"])
        ]

    def get_url(self, chat):
        return f"/chat/{chat.room}/{chat.id}/"


class DescriptionSerializer(ChatSerializer):
    class Meta(ChatSerializer.Meta):
        read_only_fields = ["title", "room", "img"]
        validators = []


class Create(generics.CreateAPIView):
    serializer_class = ChatSerializer
    permission_classes = [permissions.IsAuthenticated]

    def create(self, request, *args, **kwargs):
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        serializer.save(creator=request.user)
        return Response({"chat": serializer.data})


class InRoom(generics.ListAPIView):
    serializer_class = ChatSerializer

    def get_queryset(self):
        return Chat.objects.filter(room=self.kwargs["room"]).order_by("id")

    def list(self, request, *args, **kwargs):
        if self.kwargs["room"] not in ROOMS:
            return Response({"Error": "wrong room"}, status=status.HTTP_400_BAD_REQUEST)
        return super().list(request, *args, **kwargs)


class Update(generics.UpdateAPIView):
    http_method_names = ["patch", "options"]
    serializer_class = DescriptionSerializer
    permission_classes = [permissions.IsAuthenticated]

    def get_queryset(self):
        return Chat.objects.filter(room=self.kwargs["room"])

    def patch(self, request, *args, **kwargs):
        if self.get_object().creator != request.user:
            # The status that the document specifies.
            return Response({"detail": PermissionDenied.default_detail}, status=status.HTTP_400_BAD_REQUEST)
        return super().patch(request, *args, **kwargs)


urlpatterns = [
    path("api/chat/", Create.as_view()),
    path("api/chat/<str:room>/", InRoom.as_view()),
    path("api/chat/<str:room>/<int:pk>/", Update.as_view()),
]

if __name__ == "__main__":
    from django.core.management import call_command
    from django.core.servers.basehttp import run

    from django.core.wsgi import get_wsgi_application

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Chat)
    for number, name in [(1, "ann"), (2, "bob")]:
        User.objects.create(id=number, username=name)
    print("ready", flush=True)
    run("127.0.0.1", PORT, get_wsgi_application(), threading=True)
