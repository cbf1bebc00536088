"""Which system calls a command may make, as a program for the kernel's filter (seccomp(2), in classic BPF).

What is named here is refused and the rest is allowed, up to the newest call that was looked at: a kernel that knows
newer ones says to the command that it does not. Nothing but tables and arithmetic; it needs no library.
"""

import errno
import platform
import struct
from collections.abc import Collection, Mapping, Sequence

Numbers = tuple[int | None, int | None]
"""The number of a system call on x86_64 and on aarch64; None where there is none."""

CALLS: Mapping[str, Mapping[str, Numbers]] = {
    "rings": {
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
    },
    "keyrings": {"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218)},
    "kernel programs": {"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    "other processes": {
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "process_madvise": (440, 440),
        "pidfd_getfd": (438, 438),
        "kcmp": (312, 272),
    },
    "mounts": {
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_tree": (428, 428),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
    },
    "namespaces": {"unshare": (272, 97), "setns": (308, 268), "clone": (56, 220), "clone3": (435, 435)},
    "terminals": {"ioctl": (16, 29)},
    "sockets": {"socket": (41, 198), "socketpair": (53, 199)},
    "personality": {"personality": (135, 92)},
    "setuid files": {
        "chmod": (90, None),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "open": (2, None),
        "openat": (257, 56),
        "openat2": (437, 437),
        "creat": (85, None),
        "mknod": (133, None),
        "mknodat": (259, 33),
    },
    "file handles": {
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
        "fanotify_init": (300, 262),
    },
    "modules": {
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "create_module": (174, None),
        "query_module": (178, None),
        "get_kernel_syms": (177, None),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
    },
    "machine": {
        "reboot": (169, 142),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "acct": (163, 89),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
        "syslog": (103, 116),
        "settimeofday": (164, 170),
        "clock_settime": (227, 112),
        "clock_adjtime": (305, 266),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
        "vhangup": (153, 58),
        "nfsservctl": (180, 42),
        "lookup_dcookie": (212, 18),
        "iopl": (172, None),
        "ioperm": (173, None),
        "modify_ldt": (154, None),
        "uselib": (134, None),
        "ustat": (136, None),
        "sysfs": (139, None),
        "_sysctl": (156, None),
        "move_pages": (279, 239),
        "migrate_pages": (256, 238),
        "memfd_secret": (447, 447),
    },
    "ipc": {
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "semget": (64, 190),
        "semop": (65, 193),
        "semctl": (66, 191),
        "semtimedop": (220, 192),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
    },
}
"""What is refused, in groups that can be left out one by one. Numbers: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux."""

IPC = "ipc"
"""The group that is harmless in a namespace of its own, where programs may need it."""

NEWEST = 462
"""mseal(2), the newest call that was looked at. The same number everywhere, as for all since 424."""

NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW{CGROUP,UTS,IPC,USER,PID,NET,NS,TIME} of clone(2). Those of clone3 lie in memory, which a filter cannot
read, so it is said not to exist; C libraries then use clone."""

TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into a terminal."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Ordinary ones, and the question which it is."""

FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6. Others are not bound to a network namespace (AF_VSOCK leads to the host of a virtual
machine), or lead deep into the kernel (AF_ALG, AF_PACKET)."""

NETLINK, ROUTES = 16, 0
"""AF_NETLINK only with NETLINK_ROUTE, by which C libraries list interfaces."""

SETUID = 0o6000
"""Files that take on their owner or group when they are run. What is made in a workspace of root's is root's on the
disk: another user of the machine would only have to run it."""

_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}
"""Which argument is the mode."""

_OPENINGS = {"open": 1, "openat": 2}
"""Which argument says how to open; the next is the mode, if a file is made (O_CREAT, O_TMPFILE)."""

_MAKES = 0o20000100

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables and AUDIT_ARCH_*."""

_X32 = 0x40000000
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4

_MISSING = _ERRNO | errno.ENOSYS
_FORBIDDEN = _ERRNO | errno.EPERM
_NO_FAMILY = _ERRNO | errno.EAFNOSUPPORT

Instruction = tuple[int, int, int, int]
"""Operation, how many to skip if true, how many if false, constant (struct sock_filter)."""


def is_known(machine: str) -> bool:
    """Whether there is a table for this architecture (as `platform.machine()` names it)."""
    return machine in _ARCHITECTURES


def program(groups: Collection[str] = tuple(CALLS), *, machine: str = "", families: Sequence[int] = FAMILIES) -> bytes:
    """The filter that refuses these groups of calls, as an array of `struct sock_filter`.

    Calls of another architecture than `machine` (this one's, if empty) end the process. Of sockets only those of
    `families` can be made; none of them at all, not even to list interfaces, if it is empty. Raises `KeyError`.
    """
    column, architecture = _ARCHITECTURES[machine or platform.machine()]
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if column == 0:  # calls of the x32 kind have the same architecture, and other numbers
        code += [(_GREATER, 0, 1, _X32 - 1), (_RETURN, 0, 0, _KILL)]
    code += [(_GREATER, 0, 1, NEWEST), (_RETURN, 0, 0, _MISSING)]
    for group in groups:
        for name, numbers in CALLS[group].items():
            if (number := numbers[column]) is not None:
                body = _judgement(name, families)
                code += [(_EQUAL, 0, len(body), number), *body]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _judgement(name: str, families: Sequence[int]) -> list[Instruction]:
    """What is done with a call of this name: ends in a return on every way."""
    allow, forbid = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FORBIDDEN)
    match name:
        case "clone":
            return [_argument(0), (_ANY_BIT, 0, 1, NEW_NAMESPACES), forbid, allow]
        case "clone3" | "openat2":  # what they are asked lies in memory, too
            return [(_RETURN, 0, 0, _MISSING)]
        case _ if name in _MODES:
            return [_argument(_MODES[name]), (_ANY_BIT, 0, 1, SETUID), forbid, allow]
        case _ if name in _OPENINGS:
            how = _OPENINGS[name]
            return [
                _argument(how),
                (_ANY_BIT, 0, 3, _MAKES),
                _argument(how + 1),
                (_ANY_BIT, 0, 1, SETUID),
                forbid,
                allow,
            ]
        case "ioctl":
            return [_argument(1), *_unless(TERMINAL_INPUT, allow), forbid]
        case "personality":
            return [_argument(0), *_unless(PERSONALITIES, forbid), allow]
        case "socket":
            return [_argument(0), *_socket(families)]
        case "socketpair":
            return [_argument(0), (_EQUAL, 0, 1, 1), allow, (_RETURN, 0, 0, _NO_FAMILY)]
        case _:
            return [forbid]


def _argument(index: int) -> Instruction:
    """Load the lower half of an argument; for those looked at here the kernel ignores the upper one."""
    return (_LOAD, 0, 0, 16 + 8 * index)


def _unless(values: Sequence[int], otherwise: Instruction) -> list[Instruction]:
    """Go on after these instructions if what was loaded is one of the values; else do `otherwise`."""
    tests = [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [*tests, otherwise]


def _socket(families: Sequence[int]) -> list[Instruction]:
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NO_FAMILY)
    if not families:
        return [refuse]
    routes = [(_EQUAL, 0, 3, NETLINK), _argument(2), (_EQUAL, 0, 1, ROUTES), allow]
    named = [step for family in families for step in ((_EQUAL, 0, 1, family), allow)]
    return [*named, *routes, refuse]
