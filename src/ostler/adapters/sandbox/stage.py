"""Run as a program by root: makes a mount namespace in which another user owns a workspace that is not his.

Reads `{"uid", "workspace", "folders"}` as JSON, mounts the workspace and the folders at /tmp/0, /tmp/1 … of a mount
namespace of its own, says `ready`, and stays until its standard input ends, so that the namespace can be opened. The
workspace is mounted with its owner mapped to `uid` (mount_setattr(2), MOUNT_ATTR_IDMAP): that user can work in it, and
what he makes there belongs to the workspace's owner on the disk. Nothing outside of the namespace changes.
"""

import ctypes
import json
import os
import platform
import sys

_UNSHARE = {"x86_64": 272, "aarch64": 97}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_AT_HERE, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_CLONE_TREE = 1 | os.O_CLOEXEC
_FROM_DESCRIPTOR = 4
_RECURSIVE, _SLAVE = 0x4000, 1 << 19
_MAP_IDS = 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """struct mount_attr"""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("namespace", ctypes.c_uint64),
    )


def main() -> None:
    """Make the namespace, say so, or say why not, and keep it until standard input ends."""
    asked = json.loads(sys.stdin.readline())
    try:
        owners = _ids_of(os.stat(asked["workspace"]), asked["uid"])
        _call(_UNSHARE[platform.machine()], _NEW_MOUNTS)
        _mount(None, "/", None, _RECURSIVE | _SLAVE, None)
        workspace = _tree(asked["workspace"])
        _map_ids(workspace, owners)
        trees = [workspace, *map(_tree, asked["folders"])]
        _mount("tmpfs", "/tmp", "tmpfs", 0, "mode=755,size=64k")
        for index, tree in enumerate(trees):
            os.mkdir(f"/tmp/{index}")
            _call(_MOVE_MOUNT, tree, b"", _AT_HERE, f"/tmp/{index}".encode(), _FROM_DESCRIPTOR)
    except OSError as error:
        _say(error.strerror or str(error))
    else:
        _say("ready")
        sys.stdin.read()


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _tree(path: str) -> int:
    return _call(_OPEN_TREE, _AT_HERE, path.encode(), _CLONE_TREE | _AT_RECURSIVE)


def _ids_of(status: os.stat_result, uid: int) -> int:
    """A descriptor of a user namespace that maps the owner and the group of a file to `uid`, and others to themselves.

    What nobody is mapped to could not be written, not even by its owner or in a folder that is everybody's.
    """
    ready, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        _call(_UNSHARE[platform.machine()], _NEW_USER)
        os.write(tell, b"x")
        os.read(wait, 1)
        os._exit(0)
    os.close(tell)
    if not os.read(ready, 1):
        raise OSError(0, "there can be no user namespace")
    for name, owner in (("uid_map", status.st_uid), ("gid_map", status.st_gid)):
        with open(f"/proc/{child}/{name}", "w") as file:
            others = f"0 0 {owner}\n" if owner else ""
            file.write(f"{others}{owner} {uid} 1\n{owner + 1} {owner + 1} {uid - owner - 1}\n")
    namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.close(release)
    os.waitpid(child, 0)
    return namespace


def _map_ids(tree: int, namespace: int) -> None:
    attributes = _Attributes(_MAP_IDS, 0, 0, namespace)
    size = ctypes.sizeof(attributes)
    _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, ctypes.byref(attributes), size)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        raise _failure()


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise _failure()
    return result


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
