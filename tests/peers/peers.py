"""Lists the rows of the comparison, in the order of the table."""

import dataclasses
import typing

import roomcast
import servers
from machine import first_line_of

# Two fixed rates, two searches for the maximum, and idle sockets.
ALL = ("w1", "w2", "w1max", "w2max", "w3")


@dataclasses.dataclass
class Peer:
    """A row of the table: how its server is started, and what the server does."""

    start: typing.Callable
    does: str
    workloads: tuple = ALL
    install: typing.Callable = lambda: None


PEERS = {
    "Roomcast, fan-out": Peer(
        roomcast.fanout, "users and rights; messages come from the broker, not stored for this row"),
    "Roomcast, whole, by HTTP": Peer(
        roomcast.whole("http"), "users, rights; each message in the log and in PostgreSQL, exactly once, acknowledged",
        ("w1", "w2", "w1max", "w2max")),
    "Roomcast, whole, by sockets": Peer(
        roomcast.whole("socket"), "the same; writers are people in the room", ("w2", "w2max")),
    "raw": Peer(servers.example("raw"), "one `write()` a socket and message; no users, stores nothing"),
    "raw, Nagle left on": Peer(servers.example("raw", "--nagle"), "the same, the kernel joins writes", ("w1", "w1max")),
    "raw, 5 ms": Peer(
        servers.example("raw", "--every", "5"), "the same, one `write()` a socket each 5 ms",
        ("w1", "w2", "w1max", "w2max")),
    "axum + tokio broadcast": Peer(
        servers.example("axum_broadcast"), "a channel a room in one process; no users, stores nothing"),
    "axum + tokio broadcast, small buffers": Peer(
        servers.example("axum_broadcast", "--buffer", "4096"), "the same, 4 KiB a buffer", ("w3",)),
    "nats-server, WebSocket": Peer(servers.nats, "a subject a room; no users here, stores nothing"),
    "Centrifugo, memory": Peer(
        servers.centrifugo(servers.memory_broker), "a channel a room; a backend's HTTP requests; stores nothing"),
    "Centrifugo, history in memory": Peer(
        servers.centrifugo(servers.memory_broker_with_history), "the same, the last 100 messages for 10 minutes in memory",
        ("w1", "w2")),
    "Centrifugo + NATS": Peer(
        servers.centrifugo(servers.nats_broker), "the same as in memory, for several nodes; stores nothing",
        ("w1", "w2", "w1max", "w2max")),
    "Centrifugo + PostgreSQL": Peer(
        servers.centrifugo(servers.postgres_broker), "each message is a row first, kept for 10 minutes",
        ("w1", "w2", "w2max")),
    "Socket.IO": Peer(
        servers.socketio, "rooms of one process; no users, stores nothing", install=servers.install_socketio),
    "Socket.IO, two processes + Redis": Peer(
        servers.socketio_two, "rooms of two processes; no users, stores nothing", install=servers.install_socketio),
    "Sockudo": Peer(
        servers.sockudo, "Pusher's protocol; an app's signed HTTP requests; keeps nothing on disk",
        install=servers.install_sockudo),
    "Sockudo, two processes + NATS": Peer(
        servers.sockudo_two, "the same on two nodes", install=servers.install_sockudo),
    "Django Channels + Redis": Peer(
        servers.channels, "a group a room in Redis; no users, stores nothing", install=servers.install_channels),
}

# Servers that are not compared, with the reason.
NOT_COMPARED = {}
if not servers.CENTRIFUGO:
    NOT_COMPARED["Centrifugo"] = "CENTRIFUGO does not name its program"
    PEERS = {name: peer for name, peer in PEERS.items() if not name.startswith("Centrifugo")}


def versions():
    """The versions of all servers."""
    return [
        roomcast.version(),
        first_line_of("nats-server", "--version"),
        servers.socketio_version(),
        *filter(None, [servers.centrifugo_version()]),
        f"Sockudo {servers.SOCKUDO}",
        servers.channels_version(),
        " ".join(first_line_of("redis-server", "--version").split()[:3]),
    ]
