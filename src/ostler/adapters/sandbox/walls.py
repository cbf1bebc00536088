"""The walls of a sandbox, by name, so that a test can take one away and see what it was for."""

from collections.abc import Mapping

from ostler.adapters.sandbox.egress import RULES
from ostler.adapters.sandbox.seccomp import CALLS, IPC

KERNEL = "calls: "
"""How the names of those walls begin that refuse a group of system calls (`seccomp.CALLS`)."""

EGRESS = "egress: "
"""How the names of the proxy's rules begin (`egress.RULES`)."""

WALLS: Mapping[str, str] = {
    "user": "a process of root's first becomes a user that owns nothing",
    "files": "a tree of files of its own, with the workspace and what programs need",
    "read-only": "everything but the workspace and its scratch folders is mounted read-only",
    "scratch": "/tmp and /dev/shm of its own, bounded",
    "processes": "a namespace of processes, which ends with its first one",
    "network": "a namespace of networks with nothing but a loopback of its own",
    "ipc": "System V objects, message queues and names of its own",
    "capabilities": "no capability, inside either",
    "namespaces": "no further user namespace",
    "terminal": "a session of its own, away from the terminal of whoever runs Ostler",
    "environment": "an environment of its own",
    "descriptors": "no descriptor but its standard ones",
    "cpu": "RLIMIT_CPU",
    "memory": "RLIMIT_DATA",
    "count": "RLIMIT_NPROC",
    "file size": "RLIMIT_FSIZE",
    "control group": "a control group around everything, where one may be made",
    "disk": "the free space on the file system of the workspace is watched",
    **{KERNEL + group: f"not {', '.join(names)}" for group, names in CALLS.items() if group != IPC},
    **{EGRESS + rule: what for rule, what in RULES.items()},
}

ALL_WALLS = frozenset(WALLS)
