"""A SQLite store under `strace`: every system call that it makes of the disk seen, failed on purpose, or its last one.

From what was seen, the disk can be made as a power cut would have left it: with everything that was synchronised, and
of the rest whatever happened to get there.
"""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

from tests.faults.crew import need
from tests.runtime.processes import ROOT

WRITES = "pwrite64,write,ftruncate,fdatasync,fsync,openat,unlink,close"
SECTOR = 512
"""What a disk writes as a whole."""

_CALL = re.compile(rb"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')


def run(path: Path, count: int, *options: str) -> "subprocess.CompletedProcess[bytes]":
    """Let the scribe write under `strace` with these options; without any, by itself."""
    if options:
        need("strace", "true")
    command = [sys.executable, "-m", "tests.faults.scribe", str(path), str(count)]
    if options:
        command = ["strace", "-f", *options, *command]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(command, capture_output=True, cwd=ROOT, env=env, check=False)


def said(done: "subprocess.CompletedProcess[bytes]") -> tuple[int, list[str]]:
    """The last event that it said was kept, and what was refused."""
    lines = done.stdout.decode().splitlines()
    kept = [int(line.split()[1]) for line in lines if line.startswith("kept ")]
    return max(kept, default=0), [line.split()[1] for line in lines if line.startswith("refused ")]


class Disk:
    """The files of a store as they were written, step by step, in a trace of the process."""

    def __init__(self, trace: Path, folder: Path) -> None:
        self.steps = list(_steps(trace, folder))

    def after(self, step: int, chance: random.Random) -> tuple[dict[str, bytes], int]:
        """The files after a power cut at this step, and the last event that had been acknowledged by then.

        Of what was not synchronised, each sector got to the disk or did not.
        """
        files: dict[str, bytearray] = {}
        waiting: dict[str, list[tuple[int, bytes]]] = {}
        acknowledged = 0
        for kind, name, at, data in self.steps[:step]:
            if kind == "say":
                acknowledged = max(acknowledged, at)
            elif kind == "make":
                files.setdefault(name, bytearray())
                waiting.setdefault(name, [])
            elif kind == "write":
                waiting[name].append((at, data))
            elif kind == "cut":
                _put(files[name], waiting[name])
                waiting[name] = []
                del files[name][at:]
            elif kind == "sync":
                _put(files[name], waiting[name])
                waiting[name] = []
            elif kind == "unlink":
                files.pop(name, None)
                waiting.pop(name, None)
        for name, writes in waiting.items():
            _put(files[name], [sector for write in writes for sector in _sectors(*write) if chance.random() < 0.5])
        return {name: bytes(body) for name, body in files.items()}, acknowledged


def _put(body: bytearray, writes: list[tuple[int, bytes]]) -> None:
    for at, data in writes:
        if len(body) < at:
            body.extend(bytes(at - len(body)))
        body[at : at + len(data)] = data


def _sectors(at: int, data: bytes) -> list[tuple[int, bytes]]:
    """A write cut where sectors of the disk begin."""
    cuts = [0, *range(SECTOR - at % SECTOR, len(data), SECTOR), len(data)]
    return [(at + begin, data[begin:end]) for begin, end in itertools.pairwise(cuts)]


def _steps(trace: Path, folder: Path) -> "list[tuple[str, str, int, bytes]]":
    """What the process did to the files of this folder, and what it said, in order."""
    steps: list[tuple[str, str, int, bytes]] = []
    names: dict[int, str] = {}
    for line in trace.read_bytes().splitlines():
        match = _CALL.match(line)
        if match is None or int(match[3]) < 0:
            continue
        call, arguments, result = match[1].decode(), match[2], int(match[3])
        text = _STRING.search(arguments)
        body = bytes.fromhex(text[1].replace(b"\\x", b"").decode()) if text else b""
        number = int(arguments.split(b",")[0]) if arguments[:1].isdigit() else -1
        if call == "openat":
            path = Path(os.fsdecode(body))
            names.pop(result, None)
            if path.parent == folder and not path.name.endswith("-shm"):
                names[result] = path.name
                steps.append(("make", path.name, 0, b""))
        elif call == "unlink" and Path(os.fsdecode(body)).parent == folder:
            steps.append(("unlink", Path(os.fsdecode(body)).name, 0, b""))
        elif call == "write" and number == 1 and body.startswith(b"kept "):
            steps.append(("say", "", int(body.split()[1]), b""))
        elif number not in names:
            continue
        elif call == "close":
            del names[number]
        elif call == "pwrite64":
            steps.append(("write", names[number], int(arguments.rsplit(b",", 1)[1]), body))
        elif call == "ftruncate":
            steps.append(("cut", names[number], int(arguments.rsplit(b",", 1)[1]), b""))
        elif call in ("fdatasync", "fsync"):
            steps.append(("sync", names[number], 0, b""))
    return steps
