"""The servers that are compared: how each is installed, started on loopback, and spoken to.

Everything is installed into the build's tools folder, in pinned versions, and starts on a free port with
an empty data folder. A started server is a dict of the processes to count and the flags of `roomcast load`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")).resolve()
TOOLS = TARGET / "tools" / "peers"
PROGRAM = TARGET / "release" / "roomcast"
# The core that servers keep to; the load keeps to the other.
CORE = "0"
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, **more):
    subprocess.run([str(part) for part in command], check=True, **more)


@contextlib.contextmanager
def process(folder, *command, port=None, ready=None, patience=PATIENCE, **more):
    """A server as a child on its core, until the block ends."""
    log = open(folder / f"{Path(command[0]).name}.log", "a")
    command = ["taskset", "-c", CORE, *map(str, command)]
    child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **more)
    try:
        deadline = time.monotonic() + patience
        while not (ready() if ready else listens(port)):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[3]} does not start: see {log.name}")
            time.sleep(0.05)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        log.close()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


# --- Roomcast ---------------------------------------------------------------------------------------------------


def build():
    run("cargo", "build", "--release", "--locked", "-p", "roomcast", cwd=REPO)
    run("cargo", "build", "--release", "--locked", "-p", "load", "--examples", cwd=REPO)


@contextlib.contextmanager
def up(folder, **environment):
    """deploy/up on an empty data folder."""
    port, data = free_port(), folder / "data"
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(TARGET),
        "ROOMCAST_DATA": str(data),
        "ROOMCAST_LISTEN": f"127.0.0.1:{port}",
        **environment,
    }
    ready = lambda: answers(f"http://127.0.0.1:{port}/readyz")  # noqa: E731
    with process(folder, REPO / "deploy/up", ready=ready, patience=900, env=environment):
        pids = {file.stem: int(file.read_text().split()[0]) for file in (data / "run").glob("*.pid")}
        yield port, pids, {"ROOMCAST_DATA": str(data)}


@contextlib.contextmanager
def roomcast_fanout(folder):
    """Fan-out alone: messages are said to the broker as its republish would say them."""
    port = free_port()
    broker = ("nats-server", "-js", "-sd", folder / "nats", "-a", "127.0.0.1", "-p", port)
    with process(folder, *broker, port=port), up(folder, NATS_URL=f"nats://127.0.0.1:{port}") as started:
        listen, pids, environment = started
        environment["NATS_URL"] = f"nats://127.0.0.1:{port}"
        yield {"port": listen, "pids": {"roomcast": pids["roomcast"]}, "env": environment,
               "flags": ["--publish", "live"]}


@contextlib.contextmanager
def roomcast_whole(folder):
    """The whole system: every message is posted, stored and pushed."""
    with up(folder) as (listen, pids, environment):
        yield {"port": listen, "pids": pids, "env": environment, "flags": ["--publish", "http"]}


# --- Peers ------------------------------------------------------------------------------------------------------


def example(name, *flags):
    @contextlib.contextmanager
    def start(folder):
        port = free_port()
        command = (TARGET / "release/examples" / name, "--listen", f"127.0.0.1:{port}", *flags)
        environment = {**os.environ, "TOKIO_WORKER_THREADS": "1"}
        with process(folder, *command, port=port, env=environment) as child:
            yield {"port": port, "pids": {name: child.pid}, "flags": ["--peer", "plain"]}

    return start


@contextlib.contextmanager
def nats(folder):
    port, broker = free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'host: 127.0.0.1\nport: {broker}\nwebsocket {{ host: 127.0.0.1, port: {port}, no_tls: true }}\n'
    )
    with process(folder, "nats-server", "-c", config, port=port) as child:
        yield {"port": port, "pids": {"nats": child.pid}, "flags": ["--peer", "nats"]}


def install_socketio():
    folder = TOOLS / "socketio"
    if same(HERE / "socketio/package.json", folder / "package.json") and (folder / "node_modules").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "socketio/package.json", folder)
    run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=folder)


@contextlib.contextmanager
def socketio(folder):
    install_socketio()
    port = free_port()
    environment = {**os.environ, "NODE_PATH": str(TOOLS / "socketio/node_modules")}
    with process(folder, "node", HERE / "socketio/server.js", port, port=port, env=environment) as child:
        yield {"port": port, "pids": {"socketio": child.pid}, "flags": ["--peer", "socketio"]}


def install_channels():
    folder, wanted = TOOLS / "channels", HERE / "channels/requirements.txt"
    if shutil.which("redis-server") is None:
        run("apt-get", "install", "-yq", "--no-install-recommends", "redis-server")
    if same(wanted, folder / "installed.txt"):
        return
    run(sys.executable, "-m", "venv", "--clear", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted)
    shutil.copy(wanted, folder / "installed.txt")


@contextlib.contextmanager
def channels(folder):
    install_channels()
    port, store = free_port(), free_port()
    redis = ("redis-server", "--bind", "127.0.0.1", "--port", store, "--save", "", "--dir", folder)
    daphne = (TOOLS / "channels/bin/daphne", "-v", 0, "-b", "127.0.0.1", "-p", port,
              "--websocket_connect_timeout", 60, "server:application")
    environment = {**os.environ, "CHANNELS_REDIS": str(store), "PYTHONPATH": str(HERE / "channels"),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    with process(folder, *redis, port=store) as first, \
            process(folder, *daphne, port=port, env=environment) as second:
        yield {"port": port, "pids": {"redis": first.pid, "channels": second.pid}, "flags": ["--peer", "plain"]}


def same(one, other):
    return other.exists() and one.read_text() == other.read_text()


# In the order of the table.
PEERS = {
    "Roomcast, fan-out": roomcast_fanout,
    "Roomcast, whole": roomcast_whole,
    "raw": example("raw"),
    "raw, Nagle left on": example("raw", "--nagle"),
    "raw, 5 ms": example("raw", "--every", "5"),
    "axum + tokio broadcast": example("axum_broadcast"),
    "axum + tokio broadcast, small buffers": example("axum_broadcast", "--buffer", "4096"),
    "nats-server, WebSocket": nats,
    "Socket.IO": socketio,
    "Django Channels + Redis": channels,
}
