"""Commands of a session, run in a sandbox."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from msgspec import Meta

from ostler.adapters.tools.functions import Failure, FunctionTools, tool
from ostler.adapters.tools.workspace import Workspace
from ostler.domain.tool import ToolOutcome, ToolRequest, failed, succeeded
from ostler.kernel.errors import SandboxUnavailable

KEEP_BYTES = 1024 * 1024
"""How much of a command's output is kept: half of it from the beginning, half from the end."""

INLINE_CHARS = 16 * 1024
"""Above this the answer repeats the end of the output at its beginning, where a preview shows it."""

END_CHARS = 2000


class Completed(Protocol):
    """How a command ended: `output` is standard output and error as they came, without `dropped_bytes` in the middle.

    `ended_by` names the limit that ended it (`wall`, `cpu`, `memory`).
    """

    @property
    def exit(self) -> int: ...
    @property
    def output(self) -> str: ...
    @property
    def dropped_bytes(self) -> int: ...
    @property
    def ended_by(self) -> str | None: ...


class Sandbox(Protocol):
    """Where commands run."""

    async def run(
        self, argv: Sequence[str], *, workspace: str, cwd: str, stdin: bytes, wall_s: float, keep_bytes: int
    ) -> Completed:
        """Run one command. When this returns, raises or is cancelled, nothing that it started is alive.

        Raises `SandboxUnavailable` rather than running with less isolation than its name says.
        """
        ...


class ShellTools(FunctionTools):
    """Hosts `shell.run`. `sandboxes` are those that `request.sandbox` can name, by that name; there is no default."""

    def __init__(self, sandboxes: Mapping[str, Sandbox]) -> None:
        @tool(name="shell.run", effect="once", timeout_s=300.0)
        async def run(
            request: ToolRequest,
            argv: Annotated[list[str], Meta(min_length=1)],
            cwd: str = ".",
            timeout_s: Annotated[float, Meta(gt=0)] | None = None,
            stdin: str = "",
        ) -> ToolOutcome:
            """Run a program in the workspace, without network, and return its exit code and output.

            A failing program is an answer, too: look at `exit`. Nothing of it goes on running afterwards.

            Args:
                argv: The program and its arguments. There is no shell between: no pipes, no globs, no `&&`.
                cwd: The folder to run in, relative to the workspace.
                timeout_s: When to stop it, if before this tool's own time is up.
                stdin: What the program reads from its standard input.
            """
            return await _run(_chosen(sandboxes, request), request, argv, cwd, timeout_s, stdin)

        super().__init__([run])


async def _run(
    sandbox: Sandbox, request: ToolRequest, argv: list[str], cwd: str, timeout_s: float | None, stdin: str
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
        argv, workspace=request.workspace, cwd=cwd, stdin=stdin.encode(), wall_s=wall_s, keep_bytes=KEEP_BYTES
    )
    if done.ended_by == "wall":
        return failed("timeout", f"stopped after {wall_s:g} s; its output ended with:\n{done.output[-END_CHARS:]}")
    return succeeded(_answer(done))


def _answer(done: Completed) -> dict[str, Any]:
    """What the model sees; the order matters, because a long answer is shown by its beginning."""
    answer: dict[str, Any] = {"exit": done.exit}
    if done.ended_by is not None:
        answer["ended_by"] = f"{done.ended_by} limit"
    if done.dropped_bytes:
        answer["dropped_bytes"] = done.dropped_bytes
    if len(done.output) > INLINE_CHARS:
        answer["output_ends_with"] = done.output[-END_CHARS:]
    answer["output"] = done.output
    return answer


def _chosen(sandboxes: Mapping[str, Sandbox], request: ToolRequest) -> Sandbox:
    sandbox = sandboxes.get(request.sandbox)
    if sandbox is None:
        raise SandboxUnavailable(
            f"There is no sandbox {request.sandbox!r} here; there is: {', '.join(sorted(sandboxes)) or 'none at all'}.",
            hint="Start the session with one of these.",
        )
    return sandbox
