"""This machine: its tools folder, processes on the servers' core, and what it is."""

import contextlib
import os
import platform
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
LOAD = TARGET / "release" / "roomcast-load"
# The core that servers keep to; the load keeps to the other.
CORE = "0"
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, **more):
    subprocess.run([str(part) for part in command], check=True, **more)


def says(*command):
    """The first line of what a command answers."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip().splitlines()[0]


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
                print(Path(log.name).read_text()[-2000:], file=sys.stderr)
                sys.exit(f"{command[3]} does not start")
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


def described():
    """What figures depend on."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in facts if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{len(names)} cores of {names[0]}, {memory} GiB, Linux {platform.release()}"
