"""Commands of a session, run in a sandbox."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from msgspec import Meta

from ostler.adapters.tools.functions import Failure, FunctionTools, tool
from ostler.adapters.tools.workspace import Workspace
from ostler.domain.tool import TIERS, Isolation, ToolOutcome, ToolRequest, failed, succeeded
from ostler.kernel.errors import SandboxUnavailable

KEEP_BYTES = 1024 * 1024
"""How much of a command's output is kept: half of it from the beginning, half from the end."""

INLINE_CHARS = 16 * 1024
"""Above this the answer repeats the end of the output at its beginning, where a preview shows it."""

END_CHARS = 2000

GIT_S = 5.0
"""How long git may take to say who commits."""


class Egress(Protocol):
    """One place outside that a command asked for, `count` times; `refused` says why it was not let through."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def refused(self) -> str | None: ...
    @property
    def count(self) -> int: ...


class Completed(Protocol):
    """How a command ended: `output` is standard output and error as they came, without `dropped_bytes` in the middle.

    `ended_by` names the limit that ended it (`wall`, `cpu`, `memory`, `disk`), `egress` what it asked the proxy for.
    """

    @property
    def exit(self) -> int: ...
    @property
    def output(self) -> str: ...
    @property
    def dropped_bytes(self) -> int: ...
    @property
    def ended_by(self) -> str | None: ...
    @property
    def egress(self) -> Sequence[Egress]: ...


class Sandbox(Protocol):
    """Where commands run. Whoever writes one names it in the settings as `module:Class`; it is made without arguments.

    It is at least as strong as the tier that it is used for, or refuses: nothing checks it but its own `probe`.
    """

    async def probe(self) -> object:
        """Attack it, once, and find out whether it isolates here as its name says.

        Raises `SandboxUnavailable` if not, with what to do about it.
        """
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str,
        stdin: bytes,
        environment: Mapping[str, str],
        hosts: Sequence[str],
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        """Run one command. When this returns, raises or is cancelled, nothing that it started is alive.

        `workspace` is a folder of this machine, in whose folder `cwd` it runs and which it alone may change. `hosts`
        are the only ones that it may reach (`pypi.org`, `*.example.com`, `example.com:8443`), and what it asked for is
        in `egress`. `environment` is what it gets besides the little that every command gets. After `wall_s` seconds
        it is ended; of its output the first and the last `keep_bytes / 2` are kept. Raises `SandboxUnavailable` rather
        than running it with less isolation than the sandbox's name says.
        """
        ...


class ShellTools(FunctionTools):
    """Hosts `shell.run`. `sandboxes` are those that `request.sandbox` can name, by that name; there is no default.

    `hosts` are those that commands may reach, where their sandbox leaves them a way; none unless they are named.
    """

    def __init__(self, sandboxes: Mapping[str, Sandbox], *, hosts: Sequence[str] = ()) -> None:
        @tool(name="shell.run", effect="once", timeout_s=300.0, roles=["reads_untrusted", "reads_private"])
        async def run(
            request: ToolRequest,
            argv: Annotated[list[str], Meta(min_length=1)],
            cwd: str = ".",
            timeout_s: Annotated[float, Meta(gt=0)] | None = None,
            stdin: str = "",
        ) -> ToolOutcome:
            """Run a program in the workspace and return its exit code and output. It has no network, or a few hosts.

            A failing program is an answer, too: look at `exit`. Nothing of it goes on running afterwards.

            Args:
                argv: The program and its arguments. There is no shell between: no pipes, no globs, no `&&`.
                cwd: The folder to run in, relative to the workspace.
                timeout_s: When to stop it, if before this tool's own time is up.
                stdin: What the program reads from its standard input.
            """
            return await _run(_chosen(sandboxes, request.sandbox), request, argv, cwd, timeout_s, stdin, hosts)

        super().__init__([run])
        self._sandboxes = sandboxes

    def tier(self, request: ToolRequest) -> Isolation:
        """As strong as the sandbox of this name."""
        return next((tier for tier in TIERS if tier == request.sandbox), "none")

    async def ready(self, sandbox: str) -> tuple[str, ...]:
        """The attacks that the sandbox of this name holds against: found out by trying them, once in a process.

        Raises `SandboxUnavailable`, with what to do about it.
        """
        holding = await _chosen(self._sandboxes, sandbox).probe()
        return tuple(getattr(holding, "holds", ()))


async def _run(
    sandbox: Sandbox,
    request: ToolRequest,
    argv: list[str],
    cwd: str,
    timeout_s: float | None,
    stdin: str,
    hosts: Sequence[str],
) -> ToolOutcome:
    if request.workspace is None:
        raise Failure("blocked", "this session has no workspace to run a command in")
    if not argv[0] or any("\0" in word for word in argv):
        raise Failure("invalid", "`argv` must begin with a program and contain no NUL characters")
    with Workspace(request.workspace).folder(cwd):
        pass
    # A moment before the whole call times out, so that what the command has said by then is not lost with it.
    most_s = max(request.timeout_s - 1.0, request.timeout_s * 0.9)
    wall_s = most_s if timeout_s is None else min(timeout_s, most_s)
    done = await sandbox.run(
        argv,
        workspace=request.workspace,
        cwd=cwd,
        stdin=stdin.encode(),
        environment=await asyncio.to_thread(_git_identity, request.workspace),
        hosts=hosts,
        wall_s=wall_s,
        keep_bytes=KEEP_BYTES,
    )
    if done.ended_by == "wall":
        network = "".join(f"; {_said(place)}" for place in done.egress)
        ended = f"stopped after {wall_s:g} s{network}; its output ended with:\n{done.output[-END_CHARS:]}"
        return failed("timeout", ended)
    return succeeded(_answer(done))


def _answer(done: Completed) -> dict[str, Any]:
    """What the model sees; the order matters, because a long answer is shown by its beginning."""
    answer: dict[str, Any] = {"exit": done.exit}
    if done.ended_by is not None:
        answer["ended_by"] = f"{done.ended_by} limit"
    if done.egress:
        answer["network"] = [_said(place) for place in done.egress]
    if done.dropped_bytes:
        answer["dropped_bytes"] = done.dropped_bytes
    if len(done.output) > INLINE_CHARS:
        answer["output_ends_with"] = done.output[-END_CHARS:]
    answer["output"] = done.output
    return answer


def _said(place: Egress) -> str:
    times = f" ({place.count} times)" if place.count > 1 else ""
    return f"{place.host}:{place.port} {'refused: ' + place.refused if place.refused else 'reached'}{times}"


def _git_identity(workspace: str) -> dict[str, str]:
    """Who commits, as git knows it outside of the sandbox, where the user's own settings can be seen.

    It is all of them that a command gets: the others can name programs to run, and credentials. It is read each time,
    which costs two milliseconds, because people set it when they see a commit fail.
    """
    command = ["git", "-C", workspace, "config", "-z", "--get-regexp", r"^user\.(name|email)$"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = dict(entry.partition("\n")[::2] for entry in done.stdout.decode(errors="replace").split("\0"))
    return {
        f"GIT_{role}_{what}": value
        for what, value in (("NAME", found.get("user.name")), ("EMAIL", found.get("user.email")))
        for role in ("AUTHOR", "COMMITTER")
        if value
    }


def _chosen(sandboxes: Mapping[str, Sandbox], name: str) -> Sandbox:
    sandbox = sandboxes.get(name)
    if sandbox is None:
        raise SandboxUnavailable(
            f"There is no sandbox {name!r} here; there is: {', '.join(sorted(sandboxes)) or 'none at all'}.",
            hint="Start the session with one of these.",
        )
    return sandbox
