"""Installs and starts the servers that Roomcast is compared with.

Everything is installed into the tools folder of the target folder, in pinned versions with hashes, and starts on a
free port with an empty data folder. A started server is a dict of its ports, the processes to count and the
flags of `roomcast-load`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from machine import HERE, TARGET, TOOLS, first_line_of, free_port, process, run


def is_same_file(one, other):
    return other.exists() and one.read_text() == other.read_text()


def install_packages(*names):
    run("apt-get", "install", "-yq", "--no-install-recommends", *names)


# --- Servers in tests/load/examples -----------------------------------------------------------------------------


def example(name, *flags):
    @contextlib.contextmanager
    def start(folder):
        port = free_port()
        command = (TARGET / "release/examples" / name, "--listen", f"127.0.0.1:{port}", *flags)
        environment = {**os.environ, "TOKIO_WORKER_THREADS": "1"}
        with process(folder, *command, port=port, env=environment) as child:
            yield {"ports": [port], "pids": {name: child.pid}, "flags": ["--peer", "plain"]}

    return start


# --- Brokers ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(folder):
    port = free_port()
    command = ("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", folder)
    with process(folder, *command, port=port) as child:
        yield port, child.pid


def install_redis():
    if shutil.which("redis-server") is None:
        install_packages("redis-server")


@contextlib.contextmanager
def nats(folder):
    port, broker = free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'host: 127.0.0.1\nport: {broker}\nwebsocket {{ host: 127.0.0.1, port: {port}, no_tls: true }}\n'
    )
    with process(folder, "nats-server", "-c", config, port=port) as child:
        yield {"ports": [port], "pids": {"nats": child.pid}, "flags": ["--peer", "nats"]}


# --- Centrifugo -------------------------------------------------------------------------------------------------

# The program of who has it; nothing is installed.
CENTRIFUGO = os.environ.get("CENTRIFUGO")
# Options of a channel that keeps its last messages.
HISTORY = {"history_size": 100, "history_ttl": "10m"}


@contextlib.contextmanager
def memory_broker(folder):
    """Keeps subscriptions in the process, and no messages."""
    yield {}, {}, {}


@contextlib.contextmanager
def memory_broker_with_history(folder):
    """Keeps the last 100 messages of a channel for 10 minutes, in memory."""
    yield {}, HISTORY, {}


@contextlib.contextmanager
def nats_broker(folder):
    port = free_port()
    with process(folder, "nats-server", "-a", "127.0.0.1", "-p", port, port=port) as child:
        broker = {"enabled": True, "type": "nats", "nats": {"url": f"nats://127.0.0.1:{port}"}}
        yield broker, {}, {"nats": child.pid}


@contextlib.contextmanager
def postgres_broker(folder):
    """Each publication is a row first, kept for 10 minutes."""
    port, data = free_port(), folder / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    bin_folder = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    as_postgres = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--")
    run(*as_postgres, bin_folder / "initdb", "-A", "trust", "-U", "postgres", "-D", data, cwd="/",
        stdout=subprocess.DEVNULL)
    command = (*as_postgres, bin_folder / "postgres", "-D", data, "-p", port, "-k", "", "-h", "127.0.0.1")
    with process(folder, *command, port=port, cwd="/") as child:
        broker = {"enabled": True, "type": "postgres",
                  "postgres": {"dsn": f"postgres://postgres@127.0.0.1:{port}/postgres"}}
        yield broker, HISTORY, {"postgres": child.pid}


def centrifugo(start_broker):
    @contextlib.contextmanager
    def start(folder):
        port, config = free_port(), folder / "centrifugo.json"
        with start_broker(folder) as (broker, channels, pids):
            config.write_text(json.dumps({
                "http_server": {"address": "127.0.0.1", "port": str(port)},
                # No tokens: sockets are anonymous, and may subscribe to every channel.
                "client": {"insecure": True, "allowed_origins": ["*"]},
                "http_api": {"key": "load"},
                "channel": {"without_namespace": {"allow_subscribe_for_client": True,
                                                  "allow_subscribe_for_anonymous": True, **channels}},
                "broker": broker,
                "log": {"level": "error"},
            }))
            with process(folder, CENTRIFUGO, "--config", config, port=port) as child:
                yield {"ports": [port], "pids": {"centrifugo": child.pid, **pids}, "flags": ["--peer", "centrifugo"]}

    return start


def centrifugo_version():
    return first_line_of(CENTRIFUGO, "version") if CENTRIFUGO else None


# --- Socket.IO --------------------------------------------------------------------------------------------------


def install_socketio():
    install_redis()
    folder, source = TOOLS / "socketio", HERE / "socketio"
    if is_same_file(source / "package-lock.json", folder / "installed.json"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
    run("npm", "ci", "--no-audit", "--no-fund", "--silent", cwd=folder)
    shutil.copy(source / "package-lock.json", folder / "installed.json")


def socketio_version():
    packages = json.loads((HERE / "socketio/package.json").read_text())["dependencies"]
    return f"Socket.IO {packages['socket.io']} on Node {first_line_of('node', '--version')}"


@contextlib.contextmanager
def socketio_process(folder, *store):
    port = free_port()
    environment = {**os.environ, "NODE_PATH": str(TOOLS / "socketio/node_modules")}
    with process(folder, "node", HERE / "socketio/server.js", port, *store, port=port, env=environment) as child:
        yield port, child.pid


@contextlib.contextmanager
def socketio(folder):
    with socketio_process(folder) as (port, pid):
        yield {"ports": [port], "pids": {"socketio": pid}, "flags": ["--peer", "socketio"]}


@contextlib.contextmanager
def socketio_two(folder):
    with redis(folder) as (store, redis_pid), \
            socketio_process(folder, store) as (one, first), socketio_process(folder, store) as (two, second):
        yield {"ports": [one, two], "pids": {"socketio 1": first, "socketio 2": second, "redis": redis_pid},
               "flags": ["--peer", "socketio"]}


# --- Sockudo ----------------------------------------------------------------------------------------------------

SOCKUDO = "5.2.0"
SOCKUDO_ROOT = TOOLS / f"sockudo-{SOCKUDO}"


def install_sockudo():
    if (SOCKUDO_ROOT / "bin/sockudo").exists():
        return
    if shutil.which("protoc") is None:
        install_packages("protobuf-compiler", "libprotobuf-dev")
    # Without our target folder, cargo builds in a temporary folder and removes it.
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    run("cargo", "install", "sockudo", "--version", SOCKUDO, "--locked", "--features", "nats", "--root", SOCKUDO_ROOT,
        env=environment)


@contextlib.contextmanager
def sockudo_process(folder, name, adapter):
    """One node with the default configuration, except for its app, its port and its adapter."""
    port, config = free_port(), folder / f"{name}.toml"
    config.write_text(f"""
host = "127.0.0.1"
port = {port}
[adapter]
{adapter}
[app_manager]
driver = "memory"
[[app_manager.array.apps]]
id = "load"
key = "load"
secret = "load-secret"
enabled = true
[app_manager.array.apps.policy.limits]
max_connections = 100000
max_client_events_per_second = 1000
[metrics]
enabled = false
# All load comes from one address.
[rate_limiter]
enabled = false
# Idempotency with two nodes needs Redis.
[idempotency]
enabled = false
""")
    with process(folder, SOCKUDO_ROOT / "bin/sockudo", "--config", config, port=port, cwd=folder) as child:
        yield port, child.pid


@contextlib.contextmanager
def sockudo(folder):
    with sockudo_process(folder, "sockudo", 'driver = "local"') as (port, pid):
        yield {"ports": [port], "pids": {"sockudo": pid}, "flags": ["--peer", "pusher"]}


@contextlib.contextmanager
def sockudo_two(folder):
    broker = free_port()
    adapter = f'driver = "nats"\nfallback_to_local = false\n[adapter.nats]\nservers = ["nats://127.0.0.1:{broker}"]'
    with process(folder, "nats-server", "-a", "127.0.0.1", "-p", broker, port=broker) as child, \
            sockudo_process(folder, "one", adapter) as (one, first), \
            sockudo_process(folder, "two", adapter) as (two, second):
        yield {"ports": [one, two], "pids": {"sockudo 1": first, "sockudo 2": second, "nats": child.pid},
               "flags": ["--peer", "pusher"]}


# --- Django Channels --------------------------------------------------------------------------------------------


def install_channels():
    install_redis()
    folder, requirements = TOOLS / "channels", HERE / "channels/requirements.txt"
    if is_same_file(requirements, folder / "installed.txt"):
        return
    run(sys.executable, "-m", "venv", "--clear", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:",
        "--require-hashes", "-r", requirements)
    shutil.copy(requirements, folder / "installed.txt")


def channels_version():
    lines = (HERE / "channels/requirements.in").read_text().splitlines()
    return ", ".join(line.replace("==", " ") for line in lines if "==" in line)


@contextlib.contextmanager
def channels(folder):
    port = free_port()
    daphne = (TOOLS / "channels/bin/daphne", "-v", 0, "-b", "127.0.0.1", "-p", port,
              "--websocket_connect_timeout", 60, "server:application")
    with redis(folder) as (store, redis_pid):
        environment = {**os.environ, "CHANNELS_REDIS": str(store), "PYTHONPATH": str(HERE / "channels"),
                       "PYTHONDONTWRITEBYTECODE": "1"}
        with process(folder, *daphne, port=port, env=environment) as child:
            yield {"ports": [port], "pids": {"channels": child.pid, "redis": redis_pid},
                   "flags": ["--peer", "plain"]}
