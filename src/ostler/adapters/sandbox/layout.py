"""What a command sees of this machine, and the command line of bubblewrap that shows it just that."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ostler.adapters.sandbox.egress import PORT, Host
from ostler.kernel.errors import UsageError

INSIDE_UID = 1000
"""Who a command is inside, where Ostler itself runs as root."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/localtime", "/etc/ssl/certs", "/etc/mime.types"),
)
_NEVER = (*SYSTEM, "/etc", "/proc", "/dev", "/sys")

_WORDS: Mapping[str, tuple[str, ...]] = {
    "processes": ("--unshare-pid",),
    "network": ("--unshare-net",),
    "ipc": ("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"),
    "capabilities": ("--cap-drop", "ALL"),
    "namespaces": ("--disable-userns",),
    "terminal": ("--new-session",),
    "environment": ("--clearenv",),
}
"""The options of bubblewrap that make a wall."""


class Spec(msgspec.Struct, frozen=True):
    """What is run, and where. `hosts` are those that the proxy lets through; without any there is no way out."""

    argv: tuple[str, ...]
    workspace: str
    cwd: str = "."
    stdin: bytes = b""
    environment: Mapping[str, str] = {}
    hosts: tuple[Host, ...] = ()


def python_folders() -> list[str]:
    """Where the running Python is, as far as that is outside of the system's own folders."""
    prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
    return sorted(path for path in prefixes if not _is_within(path, SYSTEM))


def environment() -> dict[str, str]:
    """What every command gets."""
    folders = [f"{sys.prefix}/bin", f"{sys.base_prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"]
    return {
        "PATH": ":".join(dict.fromkeys(folders)),
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "agent",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def proxied() -> dict[str, str]:
    """By what a command that may reach hosts knows its proxy."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return {**dict.fromkeys(names, f"http://127.0.0.1:{PORT}"), "NO_PROXY": "127.0.0.1,localhost"}


def options(
    spec: Spec,
    walls: frozenset[str],
    *,
    known: str,
    places: Mapping[str, str],
    scratch_bytes: int,
    is_renamed: bool,
) -> list[str]:
    """The options of bubblewrap. `known` is its own list of those that it has; `places` says where the workspace and
    the folders of Python are to be found, where that is not under their own names. `is_renamed`: a user of another
    number inside.
    """
    variables = {**spec.environment, **(proxied() if spec.hosts else {}), **environment()}
    walled = [word for wall, words in _WORDS.items() if wall in walls and words[0] in known for word in words]
    return [
        *("--unshare-user", *(("--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID)) if is_renamed else ())),
        *("--die-with-parent", *walled),
        *(word for pair in variables.items() for word in ("--setenv", *pair)),
        *_mounts(spec.workspace, walls, known, places, str(scratch_bytes)),
        *("--chdir", os.path.normpath(os.path.join(spec.workspace, spec.cwd))),
    ]


def check_workspace(workspace: str) -> None:
    """Raises `UsageError` if the system itself would become writable."""
    if any(_is_within(path, (workspace,)) for path in _NEVER):
        raise UsageError(f"{workspace!r} holds the system itself.", hint="Choose a folder of its own as workspace.")


def _is_within(path: str, folders: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _mounts(workspace: str, walls: frozenset[str], known: str, places: Mapping[str, str], scratch: str) -> list[str]:
    """Mounts in order of their paths, so that inner ones lie upon outer ones.

    A Python environment inside the workspace is read-only: nothing run there may change the code that runs it.
    """
    if "files" not in walls:
        return ["--dev-bind", "/", "/"]
    bind = "--ro-bind-try" if "read-only" in walls else "--bind-try"
    mounts: dict[str, list[str]] = {"/proc": ["--proc", "/proc"], "/dev": ["--dev", "/dev"]}
    bound = ["--size", scratch] if "--size" in known and "scratch" in walls else []
    for path in ("/dev/shm", "/tmp"):
        mounts[path] = ["--perms", "1777", *bound, "--tmpfs", path]
    for path in SYSTEM:
        if os.path.islink(path):
            mounts[path] = ["--symlink", os.readlink(path), path]
        else:
            mounts[path] = [bind, path, path]
    python = python_folders()
    for path in (*ETC, *python):
        mounts[path] = [bind, places.get(path, path), path]
    if workspace not in python:
        mounts[workspace] = ["--bind", places.get(workspace, workspace), workspace]
    ordered = [word for path in sorted(mounts, key=_parts) for word in mounts[path]]
    if "read-only" not in walls:
        return ordered
    # /proc, too: its owner could otherwise write /proc/sys/kernel/core_pattern and own the machine
    return [*ordered, "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]


def _parts(path: str) -> tuple[str, ...]:
    return Path(path).parts
