"""A control group for one command: bounds on the memory and the processes of all of it together."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_ENTER = 'for group in "$1" "$2"; do echo 0 >"$group/cgroup.procs" || exit 125; done; shift 2; exec "$@"'
_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "ostler-"


class Cgroup:
    """Made when a command starts, removed when nothing of it is left."""

    def __init__(self, pids: Path, memory: Path, version: int) -> None:
        self.version = version
        self._pids = pids
        self._memory = memory

    def prefix(self) -> list[str]:
        """A command that puts itself into the group and becomes the command that follows.

        Moving a process that already runs would miss what it has started by then.
        """
        return ["/bin/sh", "-c", _ENTER, "sh", str(self._pids), str(self._memory)]

    def memory_ran_out(self) -> bool:
        """Whether the kernel killed something in the group because it wanted more memory than allowed."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with suppress(OSError):
            facts = dict(line.split() for line in (self._memory / name).read_text().splitlines())
            return facts.get("oom_kill", "0") != "0"
        return False

    def remove(self) -> None:
        for folder in {self._pids, self._memory}:
            with suppress(OSError):  # never made, or not ours to remove
                folder.rmdir()


def make_cgroup(*, memory_bytes: int, processes: int) -> Cgroup | None:
    """A new group below this process's own, so that its limits still hold; None where that is not permitted."""
    homes = _homes()
    if homes is None:
        return None
    version, pids, memory = homes
    # Never the name of one that a process of the same number has left: it would count for what that one did.
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    group = Cgroup(pids / name, memory / name, version)
    limit = "memory.max" if version == 2 else "memory.limit_in_bytes"
    try:
        for folder in {pids, memory}:
            (folder / name).mkdir()
        for file, bound in ((memory / name / limit, memory_bytes), (pids / name / "pids.max", processes)):
            with file.open("r+") as control:  # never create: what is not there is not held
                control.write(str(bound))
    except OSError:
        group.remove()
        return None
    return group


def sweep_cgroups() -> None:
    """Remove the groups of processes that were killed before they could."""
    homes = _homes()
    if homes is not None:
        for folder in {*homes[1:]}:
            for group in folder.glob(f"{_PREFIX}*-*"):
                pid = group.name.removeprefix(_PREFIX).partition("-")[0]
                if not Path("/proc", pid).exists():
                    with suppress(OSError):
                        group.rmdir()


def _homes() -> tuple[int, Path, Path] | None:
    """The version of control groups here, and where new ones for processes and for memory belong.

    In version 2 a group with processes of its own cannot hand controllers down (cgroups(7), "no internal processes"),
    so there it is beside this process's own, below the same parent.
    """
    own = _memberships()
    if "pids" in own and "memory" in own:
        return 1, _ROOT / "pids" / own["pids"], _ROOT / "memory" / own["memory"]
    if "" in own:
        return 2, (_ROOT / own[""]).parent, (_ROOT / own[""]).parent
    return None


def _memberships() -> Mapping[str, str]:
    """This process's group of each controller of version 1, and under '' that of version 2."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path.lstrip("/")
    return found
