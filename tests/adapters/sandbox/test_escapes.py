"""Every way out is tried twice: with all walls, where it fails, and without those that stop it, where it succeeds."""

import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ostler.adapters.sandbox.bwrap import Bubblewrap
from ostler.adapters.sandbox.egress import read_hosts
from ostler.adapters.sandbox.layout import Spec
from ostler.adapters.sandbox.process import Limits
from ostler.adapters.sandbox.walls import ALL_WALLS
from tests.adapters.sandbox import escapes, nobody
from tests.adapters.sandbox.escapes import ESCAPES
from tests.adapters.sandbox.processes import processes_with

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

IS_ROOT = os.geteuid() == 0
REMOVABLE = [name for name, escape in ESCAPES.items() if escape.walls and (IS_ROOT or not escape.by_root)]

ABSENT = {
    *(() if IS_ROOT else ("user",)),  # only root can become another
    *(() if "cgroup" in Bubblewrap().limits_held()["processes"] else ("control group",)),
}
"""Walls that cannot be had here, whoever asks."""


class World:
    """What there is to reach beside a workspace, and what arrived there."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.workspace = folder / "workspace"
        outside, other = folder / "outside", folder / "other"
        for made in (self.workspace, outside, other):
            made.mkdir()
        for made in (outside, other):
            (made / "secret.txt").write_text("the secret\n")
        (self.workspace / "link").symlink_to(outside / "secret.txt")
        shutil.copy("/usr/bin/id", self.workspace / "setuid")
        (self.workspace / "setuid").chmod(0o4755)
        self._udp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self._word = f"{100_000 + secrets.randbelow(100_000)}.{os.getpid()}"
        self.targets = {
            "secret": str(outside / "secret.txt"),
            "other": str(other / "secret.txt"),
            "disk": _disk(),
            "tcp": _listening(opened, socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1],
            "tcp6": _listening(opened, socket.AF_INET6, ("::1", 0)).getsockname()[1],
            "http": _web_server(opened),
            "udp": self._udp.getsockname()[1],
            "dns": _name_server(opened),
            "abstract": _listening(opened, socket.AF_UNIX, "").getsockname()[1:].decode(),
            "path": _named(opened),
            "pid": os.getpid(),
            "word": self._word,
            "segment": _segment(opened),
            "descriptor": _descriptor(opened, outside / "secret.txt"),
        }

    def was_reached(self) -> bool:
        """Whether something arrived, or is left, that only they see who look from outside. Puts an end to it."""
        left = processes_with(self._word)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(BlockingIOError):
            return bool(self._udp.recv(100))
        return bool(left)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("OSTLER_ESCAPE", "the secret")
    with ExitStack() as opened:
        yield World(tmp_path, opened)


@pytest.mark.parametrize("name", ESCAPES)
async def test_with_all_walls_it_is_stopped(name, world):
    done = await attempt(name, world, ALL_WALLS)
    assert not done.output.endswith("escaped\n"), done
    assert not world.was_reached()
    if ESCAPES[name].refused:
        assert [place.refused for place in done.egress] == [ESCAPES[name].refused]


@pytest.mark.parametrize("name", REMOVABLE)
async def test_without_its_walls_it_succeeds(name, world):
    done = await attempt(name, world, ALL_WALLS.difference(ESCAPES[name].walls))
    is_out = world.was_reached() if ESCAPES[name].is_seen_outside else done.output.endswith("escaped\n")
    assert is_out, done


@pytest.mark.parametrize(
    ("name", "wall"), [(name, wall) for name in REMOVABLE for wall in ESCAPES[name].walls if wall not in ABSENT]
)
async def test_each_of_its_walls_stops_it_alone(name, wall, world):
    done = await attempt(name, world, ALL_WALLS.difference(ESCAPES[name].walls) | {wall})
    assert not done.output.endswith("escaped\n"), done
    assert not world.was_reached()


def test_there_are_enough_of_them_and_most_have_walls_that_can_be_taken_away():
    assert len(ESCAPES) >= 50
    assert len([escape for escape in ESCAPES.values() if escape.walls]) >= 45


def test_every_wall_is_attacked_but_those_that_stand_before_others():
    attacked = {wall for escape in ESCAPES.values() for wall in escape.walls}
    behind = {
        "capabilities",  # a user other than root has none
        "calls: modules",  # which need capabilities
        "calls: machine",
        "terminal",  # every command is started in a session of its own
    }
    assert attacked == ALL_WALLS - behind


@pytest.mark.for_root
def test_all_of_this_holds_where_ostler_is_run_by_an_ordinary_user():
    folder = Path(tempfile.mkdtemp(prefix="ostler-nobody-", dir="/var/tmp"))
    try:
        os.chown(folder, nobody.UID, nobody.UID)
        tests = ["-p", "no:cacheprovider", f"--basetemp={folder}/t", __file__, "-k", "stopped or succeeds"]
        done = subprocess.run(
            nobody.as_nobody("-m", "pytest", *tests),
            env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder)
    assert re.search(r"\d{3} passed", done.stdout), done.stdout[-5000:]
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


async def this_machine(host, port):
    return ["127.0.0.1"]


async def attempt(name, world, walls):
    escape = ESCAPES[name]
    sandbox = Bubblewrap(Limits(**escape.limits), walls=walls, resolve=this_machine)
    argv = ("python3", "-I", "-S", "-c", Path(escapes.__file__).read_text(), name, json.dumps(world.targets))
    hosts = read_hosts([host.format(**world.targets) for host in escape.hosts])
    spec = Spec(argv, os.path.realpath(world.workspace), hosts=hosts)
    return await sandbox.attempt(spec, wall_s=60.0, keep_bytes=64 * 1024)


def _disk():
    disks = [line.split()[0] for line in Path("/proc/self/mounts").read_text().splitlines() if line.startswith("/dev/")]
    return next((disk for disk in disks if Path(disk).is_block_device()), "/dev/sda")


def _listening(opened, family, address):
    server = opened.enter_context(socket.socket(family))
    server.bind(address)
    server.listen()
    return server


def _named(opened):
    """Beside the folders of tests, because paths of sockets are short."""
    path = Path("/var/tmp", f"ostler-escape-{secrets.token_hex(6)}")
    _listening(opened, socket.AF_UNIX, str(path))
    opened.callback(path.unlink)
    return str(path)


def _web_server(opened):
    """The port of a server that says yes to everybody."""
    server = _listening(opened, socket.AF_INET, ("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    _in_thread(opened, serve, lambda: server.shutdown(socket.SHUT_RDWR))
    return server.getsockname()[1]


def _name_server(opened):
    """The port of a server that repeats what it is asked, until it is asked to stop."""
    server = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))

    def serve():
        while (asked := server.recvfrom(512))[0] != b"stop":
            server.sendto(*asked)

    def stop():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"stop", server.getsockname())

    _in_thread(opened, serve, stop)
    return server.getsockname()[1]


def _in_thread(opened, serve, stop):
    thread = threading.Thread(target=serve)
    thread.start()
    opened.callback(thread.join)
    opened.callback(stop)


def _segment(opened):
    """The key of a piece of shared memory that everybody may open."""
    libc = ctypes.CDLL(None)
    key = 1 + secrets.randbelow(2**31 - 1)
    segment = libc.shmget(key, 4096, 0o1666)
    opened.callback(libc.shmctl, segment, 0, None)
    return key


def _descriptor(opened, path):
    descriptor = os.open(path, os.O_RDONLY)
    opened.callback(os.close, descriptor)
    high = 200
    os.dup2(descriptor, high)
    opened.callback(os.close, high)
    return high
