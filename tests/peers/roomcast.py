"""Starts Roomcast: fanout alone, or the whole system."""

import contextlib
import os

from machine import PROGRAM, REPO, TARGET, first_line_of, free_port, is_answering, process, run


def build():
    run("cargo", "build", "--release", "--locked", "-p", "roomcast", cwd=REPO)
    run("cargo", "build", "--release", "--locked", "-p", "load", "--bins", "--examples", cwd=REPO)


def version():
    return f"{first_line_of(PROGRAM, '--version')} at {commit()}"


def commit():
    return first_line_of("git", "-C", REPO, "describe", "--always", "--dirty")


@contextlib.contextmanager
def up(folder, **environment):
    """Runs deploy/up on an empty data folder."""
    port, data = free_port(), folder / "data"
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(TARGET),
        "ROOMCAST_DATA": str(data),
        "ROOMCAST_LISTEN": f"127.0.0.1:{port}",
        **environment,
    }
    is_ready = lambda: is_answering(f"http://127.0.0.1:{port}/readyz")  # noqa: E731
    with process(folder, REPO / "deploy/up", is_ready=is_ready, timeout=900, env=environment):
        pids = {file.stem: int(file.read_text().split()[0]) for file in (data / "run").glob("*.pid")}
        yield port, pids, {"ROOMCAST_DATA": str(data)}


@contextlib.contextmanager
def fanout(folder):
    """Fanout alone: the load publishes messages to the broker as the broker's republish would."""
    port = free_port()
    broker = ("nats-server", "-js", "-sd", folder / "nats", "-a", "127.0.0.1", "-p", port)
    with process(folder, *broker, port=port), up(folder, NATS_URL=f"nats://127.0.0.1:{port}") as started:
        listen, pids, environment = started
        environment["NATS_URL"] = f"nats://127.0.0.1:{port}"
        yield {"ports": [listen], "pids": {"roomcast": pids["roomcast"]}, "env": environment,
               "flags": ["--publish", "live"]}


def whole(publish):
    """The whole system: every message is sent to api, stored and pushed."""

    @contextlib.contextmanager
    def start(folder):
        with up(folder) as (listen, pids, environment):
            yield {"ports": [listen], "pids": pids, "env": environment, "flags": ["--publish", publish]}

    return start
