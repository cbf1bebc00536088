"""The attacks that a sandbox is tried with before anything runs in it, and what came of them."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from ostler.adapters.sandbox.remedy import OTHERWISE
from ostler.kernel.errors import SandboxUnavailable

PYTHON = os.path.realpath(sys.executable)


class Holding(msgspec.Struct, frozen=True):
    """What a tier holds against on this machine: the names of attacks. `fix` says what to do about those in `fails`."""

    tier: str
    holds: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    fix: str = ""


def judged(tier: str, found: Mapping[str, str], fix: str) -> Holding:
    """What the attacks showed. Raises `SandboxUnavailable` if one of them came to anything, with the fix."""
    fails = {name: what for name, what in sorted(found.items()) if what}
    holding = Holding(tier, tuple(name for name in found if name not in fails), tuple(fails), fix if fails else "")
    if fails:
        raise SandboxUnavailable(
            f"The sandbox {tier} does not hold here: " + "; ".join(map(": ".join, fails.items())) + ".",
            hint=f"{fix} {OTHERWISE}",
            remedy=fix,
            holding=msgspec.to_builtins(holding),
        )
    return holding


def command(targets: dict[str, object]) -> list[str]:
    """The command that attacks from inside."""
    return [PYTHON, "-I", "-S", "-c", ATTACKS, json.dumps(targets)]


def read(output: str, code: int) -> dict[str, str]:
    """What each attack came to, by its name; '' where it was held off."""
    try:
        found: dict[str, str] = json.loads(output)
    except ValueError:
        return {"starting": " ".join(output.split())[-500:] or f"it ended with {code}"}
    return found


@contextmanager
def targets(environment: Sequence[str], **limits: int) -> Iterator[tuple[str, dict[str, object]]]:
    """A workspace to attack from, and what to attack: a file beside it and servers on this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="ostler-probe-") as outside,
        tempfile.TemporaryDirectory(prefix="ostler-probe-") as workspace,
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.socket(socket.AF_UNIX)) as abstract,
        closing(socket.socket(socket.AF_UNIX)) as named,
    ):
        canary = Path(outside, "canary")
        canary.write_text("x")
        abstract.bind("")
        named.bind(str(canary.with_name("socket")))
        for listening in (abstract, named):
            listening.listen()
        yield (
            workspace,
            {
                "port": server.getsockname()[1],
                "canary": str(canary),
                "abstract": abstract.getsockname()[1:].decode("ascii"),
                "named": str(canary.with_name("socket")),
                "pid": os.getpid(),
                "environment": sorted(environment),
                **limits,
            },
        )


ATTACKS = """
import ctypes, errno, fcntl, json, mmap, os, platform, resource, socket, sys
target = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
column = 0 if platform.machine() == "x86_64" else 1
found = {}
def attack(name, action):
    try:
        what = action()
    except (OSError, MemoryError):
        what = None
    found[name] = what or ""
def call(name, numbers, *arguments):
    if libc.syscall(ctypes.c_long(numbers[column]), *arguments) >= 0:
        return name + " was let through"
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        return name + " reached the kernel"
def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
    return "the host answered"
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("192.0.2.1", 53))
        return "there is a way to other machines"
def write(path):
    open(path, "w").close()
    os.unlink(path)
    return path + " could be written"
def read():
    with open(target["canary"]):
        return "a file outside the workspace could be read"
def environment():
    names = set(os.environ)
    for path in ("/proc/1/environ", "/proc/%d/environ" % target["pid"]):
        try:
            with open(path) as file:
                names |= {entry.partition("=")[0] for entry in file.read().split("\\0") if entry}
        except OSError:
            pass
    return ", ".join(sorted(names - set(target["environment"]) - {"PWD", "LC_CTYPE", "_"}))
def tune():
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "the kernel's settings could be written"
def signal():
    os.kill(target["pid"], 0)
    return "the process that runs Ostler could be signalled"
def root():
    return os.getuid() == 0 and "commands run as root"
def privileges():
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    if any(sets):
        return "there are capabilities"
    if libc.prctl(39, 0, 0, 0, 0) != 1:
        return "setuid programs have their effect"
def descriptors():
    found = []
    for descriptor in range(3, 256):
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
            found.append(descriptor)
        except OSError:
            pass
    return found and "descriptors %s are open" % found
def descend():
    if libc.unshare(0x10000000) == 0:
        return "a user namespace could be made"
def processes():
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard > target["processes"] or hard < 0:
        return "there is no limit"
    resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    try:
        child = os.fork()
    except BlockingIOError:
        return
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "the limit does not bind, as for root"
def memory():
    mmap.mmap(-1, target["memory"] + 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return "the limit does not bind"
def file_size():
    with open("large", "wb") as file:
        file.truncate(target["file_size"] + 1)
    return "the limit does not bind"
def vsock():
    socket.socket(40, socket.SOCK_STREAM).close()
    return "sockets to the host of a virtual machine can be made"
attacks = {
    "network": lambda: connect(socket.AF_INET, ("127.0.0.1", target["port"])),
    "other machines": send,
    "abstract sockets": lambda: connect(socket.AF_UNIX, "\\0" + target["abstract"]),
    "named sockets": lambda: connect(socket.AF_UNIX, target["named"]),
    "machine sockets": vsock,
    "write outside": lambda: write(target["canary"] + ".new"),
    "write system": lambda: write("/usr/ostler-probe"),
    "read outside": read,
    "environment": environment,
    "kernel settings": tune,
    "signals": signal,
    "root": root,
    "privileges": privileges,
    "descriptors": descriptors,
    "user namespaces": descend,
    "rings": lambda: call("io_uring_setup", (425, 425), 1, None),
    "keyrings": lambda: call("add_key", (248, 217), None, None, None, 0, 0),
    "kernel programs": lambda: call("bpf", (321, 280), -1, None, 0),
    "tracing": lambda: call("ptrace", (101, 117), -1, 0, None, None),
    "mounts": lambda: call("mount", (165, 40), None, None, None, 0, None),
    "typing": lambda: call("TIOCSTI", (16, 29), -1, 0x5412, None),
    "processes": processes,
    "memory": memory,
    "file size": file_size,
}
for name in target.get("attacks") or attacks:
    attack(name, attacks[name])
print(json.dumps(found))
"""
"""A Python program, because that is what is there for certain. Prints what each attack came to."""
