"""Describes this machine, and runs processes on the core of the servers."""

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
# The core that servers are pinned to; the load is pinned to core 1.
CORE = "0"
START_TIMEOUT_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, **more):
    subprocess.run([str(part) for part in command], check=True, **more)


def first_line_of(*command):
    """The first line of a command's output."""
    completed = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return (completed.stdout or completed.stderr).strip().splitlines()[0]


@contextlib.contextmanager
def process(folder, *command, port=None, is_ready=None, timeout=START_TIMEOUT_SECONDS, **more):
    """Runs a server as a child process on its core until the block ends."""
    log = open(folder / f"{Path(command[0]).name}.log", "a")
    command = ["taskset", "-c", CORE, *map(str, command)]
    child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **more)
    try:
        deadline = time.monotonic() + timeout
        while not (is_ready() if is_ready else is_listening(port)):
            if child.poll() is not None or time.monotonic() > deadline:
                print(Path(log.name).read_text()[-2000:], file=sys.stderr)
                sys.exit(f"{command[3]} did not start")
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


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_answering(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def description():
    """The hardware and the kernel, which the measurements depend on."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in cpu_lines if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{len(names)} cores of {names[0]}, {memory} GiB, Linux {platform.release()}"
