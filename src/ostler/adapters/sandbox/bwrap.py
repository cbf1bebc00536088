"""Isolation by bubblewrap: no network, a read-only system, one writable folder, nothing else to see.

The namespaces come from bubblewrap (https://github.com/containers/bubblewrap), the filter of system calls is our own
(`seccomp`); limits come from rlimits set inside and, where this process may make one, from a control group around
everything. A process of root's becomes another user first (`user`).
"""

import os
import platform
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import msgspec

from ostler.adapters.sandbox import layout, probe, seccomp
from ostler.adapters.sandbox.cgroup import Cgroup, make_cgroup, sweep_cgroups
from ostler.adapters.sandbox.egress import DOOR, RULES, Proxy, Resolve, open_door, read_hosts
from ostler.adapters.sandbox.layout import Spec
from ostler.adapters.sandbox.namespaced import Namespaced
from ostler.adapters.sandbox.probe import Holding
from ostler.adapters.sandbox.process import Completed, Limits, disk_fills, watch
from ostler.adapters.sandbox.remedy import OTHERWISE, allow_namespaces, install
from ostler.adapters.sandbox.user import Stage, Stages, program
from ostler.adapters.sandbox.walls import ALL_WALLS, EGRESS, KERNEL, WALLS
from ostler.kernel.errors import SandboxUnavailable

_PROBE_S = 30.0
_PROBE_BYTES = 64 * 1024


class Bubblewrap:
    """Runs commands isolated from everything but their workspace.

    A command sees /usr and the running Python read-only, its workspace at its own path and writable, a /tmp of its own;
    no network, no other process, no home directory, nothing of this process's environment. When it ends, all that it
    started ends. It is no process of root's, not even seen from outside.
    """

    name = "bwrap"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        program: str = "bwrap",
        walls: frozenset[str] = ALL_WALLS,
        resolve: Resolve | None = None,
    ) -> None:
        """`walls` are those that stand (`walls.WALLS`); `probe` and `run` refuse if one that they attack is missing.

        `resolve` finds the addresses of a host, for the proxy.
        """
        self._limits = limits or Limits()
        self._program = program
        self._walls = walls
        self._resolve = resolve
        self._holding: Holding | None = None
        self._known = ""
        self._filter = b""
        self._stages = Stages()

    def limits_held(self) -> dict[str, str]:
        """Which limits bind here, and how."""
        held = {"cpu": "each process", "memory": "each process", "file size": "each file"}
        held["wall"] = held["processes"] = held["disk"] = "all of it"
        if group := self._make_cgroup():
            group.remove()
            held["memory"] = held["processes"] = f"all of it (cgroup v{group.version})"
        return held

    async def probe(self) -> Holding:
        """Attack the sandbox once and return what it holds against. Raises `SandboxUnavailable` if it does not.

        Later calls return the same without another try.
        """
        if self._holding is None:
            sweep_cgroups()
            found = await self._attack()
            fix = (allow_namespaces() if found.get("starting") else "") or "Correct what is named."
            self._holding = probe.judged(self.name, found, fix)
        return self._holding

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str = ".",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        hosts: Sequence[str] = (),
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        """Run one command in the folder `cwd` of the workspace, and end all that it started when it ends.

        `environment` is what it gets besides what every command gets. `hosts` are those that it may reach by the proxy
        that HTTP_PROXY and HTTPS_PROXY name (`egress.read_hosts`). Cancelling ends it, too; nothing of it is alive
        when that is through. Raises `SandboxUnavailable`, `ConfigurationError`,
        `UsageError`.
        """
        allowed = read_hosts(hosts)
        await self.probe()
        spec = Spec(tuple(argv), os.path.realpath(workspace), cwd, stdin, environment or {}, allowed)
        return await self.attempt(spec, wall_s=wall_s, keep_bytes=keep_bytes)

    async def attempt(self, spec: Spec, *, wall_s: float, keep_bytes: int) -> Completed:
        """Run one command within the walls that there are, whether or not they hold."""
        layout.check_workspace(spec.workspace)
        self._prepare()
        group = self._make_cgroup()
        try:
            async with self._stage(spec.workspace) as stage:
                command = self._command(spec, group, stage)
                done = await self._watch(spec, command, wall_s=wall_s, keep_bytes=keep_bytes)
            if group and done.exit > 128 and group.memory_ran_out():
                return msgspec.structs.replace(done, ended_by="memory")
            return done
        finally:
            if group:
                group.remove()

    def _command(self, spec: Spec, group: Cgroup | None, stage: Stage | None) -> list[str]:
        """The command line up to the options of bubblewrap that only a start knows."""
        options = layout.options(
            spec,
            self._walls,
            known=self._known,
            places=stage.places if stage else {},
            scratch_bytes=self._limits.scratch_bytes,
            is_renamed=os.geteuid() == 0,
        )
        return [*(group.prefix() if group else ()), *(stage.prefix() if stage else ()), self._program, *options]

    async def _watch(self, spec: Spec, command: Sequence[str], *, wall_s: float, keep_bytes: int) -> Completed:
        """Start the command, let it reach its hosts, and watch it to its end."""
        inherited = [] if "descriptors" in self._walls else _inheritable()
        door: list[str] = []
        async with AsyncExitStack() as opened:
            if self._filter:
                inherited.append(opened.enter_context(_in_memory(self._filter)))
                command = [*command, "--seccomp", str(inherited[-1])]
            proxy = self._proxy(spec)
            if proxy is not None:
                inherited.append(await opened.enter_async_context(open_door(proxy)))
                door = [probe.PYTHON, "-I", "-S", "-c", DOOR, str(inherited[-1])]
            child = Namespaced(
                lambda options: [*command, *options, "--", *self._limits.prefix(self._walls), *door, *spec.argv],
                environment=self._environment(),
                stdin=spec.stdin,
                keep_bytes=keep_bytes,
                inherited=inherited,
            )
            filling = disk_fills(spec.workspace, self._limits.disk_bytes) if "disk" in self._walls else None
            done = await watch(child, wall_s=wall_s, filling=filling)
        return msgspec.structs.replace(done, egress=proxy.seen()) if proxy else done

    def _environment(self) -> dict[str, str]:
        """That of bubblewrap itself, which stays readable inside, as /proc/1/environ."""
        return layout.environment() if "environment" in self._walls else {**os.environ, **layout.environment()}

    def _proxy(self, spec: Spec) -> Proxy | None:
        if not spec.hosts:
            return None
        rules = frozenset(rule for rule in RULES if EGRESS + rule in self._walls)
        return Proxy(spec.hosts, rules=rules, resolve=self._resolve)

    @asynccontextmanager
    async def _stage(self, workspace: str) -> AsyncIterator[Stage | None]:
        """Where another user than root has the workspace, if it is root who runs this."""
        if os.geteuid() != 0 or "user" not in self._walls:
            yield None
        else:
            async with self._stages.hold(workspace, layout.python_folders()) as stage:
                yield stage

    def _make_cgroup(self) -> Cgroup | None:
        if "control group" not in self._walls:
            return None
        return make_cgroup(memory_bytes=self._limits.memory_bytes, processes=self._limits.processes)

    def _prepare(self) -> None:
        """Find what is needed, once. Raises `SandboxUnavailable`."""
        if self._known:
            return
        path = shutil.which(self._program)
        if path is None:
            remedy = install("bubblewrap")
            raise SandboxUnavailable(
                f"Isolation needs bubblewrap, and there is no {self._program!r}.",
                hint=f"{remedy} {OTHERWISE}",
                remedy=remedy,
            )
        program("prlimit")
        groups = [wall.removeprefix(KERNEL) for wall in WALLS if wall.startswith(KERNEL) and wall in self._walls]
        if groups:
            self._filter = _filter(groups)
        self._program = path
        self._known = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout or "none"

    async def _attack(self) -> dict[str, str]:
        """Try the attacks of `probe` inside and return what each came to."""
        limits = {
            "processes": self._limits.processes,
            "memory": self._limits.memory_bytes,
            "file_size": self._limits.file_bytes,
        }
        with probe.targets([*layout.environment()], **limits) as (workspace, targets):
            spec = Spec(tuple(probe.command(targets)), os.path.realpath(workspace))
            done = await self.attempt(spec, wall_s=_PROBE_S, keep_bytes=_PROBE_BYTES)
        return probe.read(done.output, done.exit)


def _filter(groups: Sequence[str]) -> bytes:
    machine = platform.machine()
    if not seccomp.is_known(machine):
        raise SandboxUnavailable(
            f"There is no filter of system calls for {machine}; there is one for x86_64 and for aarch64.",
            hint=f"Run commands on such a machine. {OTHERWISE}",
        )
    return seccomp.program(groups, machine=machine)


def _inheritable() -> list[int]:
    """What a program that does not look to it hands down to those that it starts."""
    found = map(int, os.listdir("/proc/self/fd"))
    return [descriptor for descriptor in found if descriptor > 2 and _is_inheritable(descriptor)]


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # that of the listing itself
        return False


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor from which this can be read once."""
    descriptor = os.memfd_create("ostler", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
