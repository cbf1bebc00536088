"""Run as a program: starts a command within a Landlock domain, and ends all that it started when it ends.

Its one argument is JSON: `{"argv", "cwd", "readable", "writable", "filter", "limits"}`, `filter` in hexadecimal and
`limits` by the numbers of resources. What it starts cannot signal it (the scopes of Landlock's version 6), and whatever
loses its parent there becomes its child, so that nothing gets away. It ends when its own parent does.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
VERSION_MIN = 6

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICE = 1 << 14, 1 << 15
_EVERYTHING = (1 << 16) - 1
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

_DEATH_SIGNAL, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 22, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr"""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def version() -> int:
    """The version of Landlock that this kernel has; 0 if none."""
    found: int = _libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def main() -> None:
    """Start the command, wait for it, end what it left, and exit as it did."""
    asked = json.loads(sys.argv[1])
    parent = os.getppid()
    _control(_SUBREAPER, 1)
    _control(_DEATH_SIGNAL, signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.getppid() != parent:
        sys.exit(143)
    child = os.fork()
    if child == 0:
        _become(asked)
    code = 1
    try:
        status = _wait_for(child)
        code = status if status >= 0 else 128 - status
    finally:
        _end_all()
    sys.exit(code)


def _become(asked: dict[str, object]) -> None:
    """Give up what the command is not to have, and become it. Does not return."""
    code = 126
    argv, limits = asked["argv"], asked["limits"]
    assert isinstance(argv, list)
    assert isinstance(limits, dict)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _restrict(asked)
        for number, bound in limits.items():
            resource.setrlimit(int(number), tuple(bound))
        _filter(bytes.fromhex(str(asked["filter"])))
        os.chdir(str(asked["cwd"]))
        code = 127
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"{error.filename or argv[0]}: {error.strerror}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _restrict(asked: dict[str, object]) -> None:
    """Enter a domain that can read some of the files, write others, and reach or signal nothing outside of it."""
    _control(_NO_NEW_PRIVILEGES, 1)
    attributes = _Ruleset(_EVERYTHING, _TCP, _ABSTRACT_SOCKETS_AND_SIGNALS)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    ruleset = _call(_CREATE, ctypes.byref(attributes), size, ctypes.c_uint32(0))
    for key, allowed in (("readable", _EXECUTE | _READ | _LIST), ("writable", _EVERYTHING)):
        folders = asked[key]
        assert isinstance(folders, list)
        for path in folders:
            with suppress(FileNotFoundError):
                _allow(ruleset, path, allowed)
    _call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    beneath = _Beneath(allowed if os.path.isdir(path) else allowed & _OF_FILES, opened)
    _call(_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(beneath), ctypes.c_uint32(0))
    os.close(opened)


def _filter(instructions: bytes) -> None:
    program = _Program(len(instructions) // 8, instructions)
    _control(_SECCOMP, 2, ctypes.byref(program))


def _wait_for(child: int) -> int:
    """The exit code of this child, or minus the signal that ended it. Others that end meanwhile are let go."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def _end_all() -> None:
    """Kill what is left, until there is nothing: what is killed may have started others by then."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(ChildProcessError):
        while True:
            for process in _descendants():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            os.wait()


def _descendants() -> list[int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while grown := {process for process, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found - {os.getpid()})


def _control(option: int, *arguments: object) -> None:
    if _libc.prctl(option, *arguments, *(0 for _ in range(4 - len(arguments)))) != 0:
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
