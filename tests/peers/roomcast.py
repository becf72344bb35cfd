"""Roomcast itself: fan-out alone, and the whole system."""

import contextlib
import os

from machine import PROGRAM, REPO, TARGET, answers, free_port, process, run, says


def build():
    run("cargo", "build", "--release", "--locked", "-p", "roomcast", cwd=REPO)
    run("cargo", "build", "--release", "--locked", "-p", "load", "--bins", "--examples", cwd=REPO)


def version():
    return f"{says(PROGRAM, '--version')} at {commit()}"


def commit():
    return says("git", "-C", REPO, "describe", "--always", "--dirty")


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
def fanout(folder):
    """Fan-out alone: messages are said to the broker as its republish would say them."""
    port = free_port()
    broker = ("nats-server", "-js", "-sd", folder / "nats", "-a", "127.0.0.1", "-p", port)
    with process(folder, *broker, port=port), up(folder, NATS_URL=f"nats://127.0.0.1:{port}") as started:
        listen, pids, environment = started
        environment["NATS_URL"] = f"nats://127.0.0.1:{port}"
        yield {"ports": [listen], "pids": {"roomcast": pids["roomcast"]}, "env": environment,
               "flags": ["--publish", "live"]}


def whole(publish):
    """The whole system: every message is written to it, stored and pushed."""

    @contextlib.contextmanager
    def start(folder):
        with up(folder) as (listen, pids, environment):
            yield {"ports": [listen], "pids": pids, "env": environment, "flags": ["--publish", publish]}

    return start
