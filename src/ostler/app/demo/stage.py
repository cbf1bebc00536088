"""Where the demonstration plays: a folder with a git repository to work on, a store, and a witness from outside."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ostler.app.plugins import SANDBOXES, part
from ostler.app.settings import Settings
from ostler.kernel.errors import NotFound, OstlerError, SandboxUnavailable

RUNS = ".test-runs"
HELD_RUN = 2
"""The run of the tests in the middle of which the worker is killed: the first one after an edit."""
LOOK_S = 0.01

WITNESS = f'''\
"""Every run of these tests adds a line to {RUNS}, so that one can count them without asking anybody else.

`ostler demo` has put this here. It holds run {HELD_RUN} by a lock, so that it is surely under way when its worker dies.
"""

import fcntl

with open("{RUNS}", "a+") as runs:
    runs.write("run\\n")
    runs.flush()
    runs.seek(0)
    if len(runs.readlines()) == {HELD_RUN}:
        fcntl.flock(runs, fcntl.LOCK_EX)
'''


class Stage(msgspec.Struct, frozen=True):
    """A folder of its own, in which everything is kept that the demonstration leaves behind."""

    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "project"

    @property
    def shelf(self) -> Path:
        """The folder of the store."""
        return self.folder / "store"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.shelf / 'ostler.db'}"

    @property
    def settings(self) -> Settings:
        return Settings(store=self.store, folder=self.folder)

    def build(self) -> None:
        """Copy the example, make it a git repository with one commit, and place the witness. Raises `NotFound`."""
        shutil.copytree(example(), self.workspace, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self.workspace, *self.workspace.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # an installed example may be read-only
        (self.workspace / "tests" / "__init__.py").write_text(WITNESS)
        self.shelf.mkdir()
        self.git("init", "--quiet", "--template=")
        (self.workspace / ".git" / "info").mkdir()
        (self.workspace / ".git" / "info" / "exclude").write_text(f"{RUNS}\n")
        self.git("config", "user.name", "coder")
        self.git("config", "user.email", "coder@demo.invalid")
        self.git("add", "--all")
        self.git("-c", "user.name=demo", "-c", "user.email=demo@demo.invalid", "commit", "--quiet", "-m", "Rota")

    def commits(self) -> int:
        """How many commits there are, asked of git itself."""
        return int(self.git("rev-list", "--count", "HEAD"))

    def git(self, *arguments: str) -> str:
        """What git says, for which nothing counts that the user has set up. Raises `NotFound` if there is no git."""
        program = shutil.which("git")
        if program is None:
            raise NotFound(
                "The demo needs git, and there is none.", hint=f"Install it: {_as_root('apt-get install git')}"
            )
        environment = {"HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.defpath, "LC_ALL": "C"}
        command = [program, "-C", str(self.workspace), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OstlerError(f"git {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


class Witness:
    """What the tests themselves say of how often they were run. While it is open, one run of them is held."""

    def __init__(self, stage: Stage) -> None:
        self._path = stage.workspace / RUNS

    def __enter__(self) -> Self:
        self._file = self._path.open("a+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def runs(self) -> int:
        return len(self._path.read_text().splitlines())

    async def until(self, runs: int) -> None:
        """Wait until so many runs have begun."""
        while self.runs() < runs:  # noqa: ASYNC110 - it is another process that writes the file
            await asyncio.sleep(LOOK_S)


def example() -> Path:
    """The repository to be repaired: packed with an installed Ostler, or beside the sources. Raises `NotFound`."""
    packed = Path(__file__).parents[1] / "builtin" / "example"
    beside = Path(__file__).parents[4] / "examples" / "coder" / "repo"
    for folder in (packed, beside):
        if (folder / "tests" / "__init__.py").is_file():
            return folder
    raise NotFound("The example project is missing.", hint="Install Ostler again, or run the demo from a whole clone.")


async def check_sandbox() -> list[str]:
    """What the sandbox holds against. Raises `SandboxUnavailable`, with the command that helps where it is known."""
    try:
        holding = await part(SANDBOXES["bwrap"])().probe()
    except SandboxUnavailable as error:  # the demonstration is one of isolation: there is no doing without
        raise SandboxUnavailable(error.message, hint=error.facts.get("remedy", error.hint)) from error
    return list(holding.holds)


def _as_root(command: str) -> str:
    return command if os.geteuid() == 0 else f"sudo {command}"
