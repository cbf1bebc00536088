"""PostgreSQL servers and poolers of a test's own, to be stopped, killed, promoted and broken, and gone afterwards."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

PATIENCE_S = 60.0
OWNER = "postgres"
"""The user who runs the servers where tests run as root, which no server wants to be."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def programs() -> Path:
    """Where the newest PostgreSQL of this machine keeps its programs; skips the test if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    inside = shutil.which("initdb")
    if inside is None:
        pytest.skip("the programs of a PostgreSQL server are not here")
    return Path(inside).parent


def as_owner(*command: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a command as somebody whom servers accept."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["runuser", "-u", OWNER, "--", *words]
    # Output goes to files: a server would inherit a pipe, and whoever reads it would wait for the server's end.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            words, stdout=said, stderr=said, stdin=subprocess.DEVNULL, text=True, check=False, cwd="/"
        )
        said.seek(0)
        text = said.read()
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)} failed with {done.returncode}: {text}")
    return subprocess.CompletedProcess(words, done.returncode, text)


class Cluster:
    """One server with its own data, port and socket, which really writes to the disk (`fsync = on`)."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._programs = programs()

    def url(self, *, schema: str = "ostler", port: int | None = None, more: str = "") -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{port or self.port}/postgres?schema={schema}{more}"

    def make(self) -> None:
        """A new, empty server."""
        as_owner(
            self._programs / "initdb",
            "-D",
            self.folder,
            "-U",
            OWNER,
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        self.configure(
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder.parent}'\n"
            "fsync = on\nsynchronous_commit = on\nmax_connections = 60\nshared_buffers = 16MB\nwal_level = replica\n"
        )

    def configure(self, text: str) -> None:
        """Settings that count from the next start on; the last one wins."""
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(text)

    def start(self) -> None:
        self._control("start", "-w", "-l", self.folder.parent / f"{self.folder.name}.log")

    def stop(self, how: str) -> None:
        """`immediate` is how a server crashes: nothing is said, flushed or waited for."""
        self._control("stop", "-m", how, "-w")

    def kill(self) -> None:
        """The whole server is gone at once, by SIGKILL."""
        leader = int((self.folder / "postmaster.pid").read_text().split()[0])
        os.kill(leader, signal.SIGSTOP)  # so that it does not see its children die and begins to recover
        processes = [*_children(leader), leader]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while not all(_is_dead(process) for process in processes):
            time.sleep(0.01)
        # Until somebody asks how an orphan ended, the dead keep their number, and the next server takes them for alive.
        for lock in (self.folder / "postmaster.pid", self.folder.parent / f".s.PGSQL.{self.port}.lock"):
            lock.unlink(missing_ok=True)

    def promote(self) -> None:
        """A standby becomes the primary."""
        self._control("promote", "-w")

    def standby(self, folder: Path, *, follows: bool) -> "Cluster":
        """A copy of this server as it is now, running; it `follows` the primary, or has lost sight of it."""
        copy = Cluster(folder, free_port())
        as_owner(
            self._programs / "pg_basebackup", "-D", folder, "-h", "127.0.0.1", "-p", self.port, "-U", OWNER, "-R",
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        copy.configure(f"port = {copy.port}\nhot_standby = on\n" + ("" if follows else "primary_conninfo = ''\n"))
        if not follows:
            (folder / "postgresql.auto.conf").write_text("")
        copy.start()
        return copy

    async def ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url().partition("?")[0])
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return found
        finally:
            await connection.close()

    def _control(self, *words: object) -> None:
        as_owner(self._programs / "pg_ctl", "-D", self.folder, "-t", int(PATIENCE_S), *words)


@contextmanager
def home() -> Iterator[Path]:
    """A folder in which the servers' user may write, with a short path, for sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="ostler-"))
    if os.geteuid() == 0:
        user = _owner()
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        yield folder
    finally:
        for control in folder.glob("*/postmaster.pid"):
            with suppress(AssertionError):
                as_owner(programs() / "pg_ctl", "-D", control.parent, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """A running server that is nobody else's."""
    programs()
    with home() as folder:
        cluster = Cluster(folder / "main", free_port())
        cluster.make()
        cluster.start()
        yield cluster


@contextmanager
def pooler(cluster: Cluster, *, connections: int) -> Iterator[int]:
    """A PgBouncer before the server that gives out so many connections by the transaction; yields its port."""
    if not shutil.which("pgbouncer"):
        pytest.skip("PgBouncer is not here")
    port, folder = free_port(), cluster.folder.parent
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npostgres = user={OWNER} host=127.0.0.1 port={cluster.port}\n"
        "[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {connections}\n"
        f"max_client_conn = 200\npidfile = {folder}/pgbouncer.pid\nlogfile = {folder}/pgbouncer.log\n"
        "unix_socket_dir =\n"
    )
    settings.chmod(0o644)
    as_owner("pgbouncer", "-d", settings)
    try:
        yield port
    finally:
        leader = int((folder / "pgbouncer.pid").read_text())
        os.kill(leader, signal.SIGKILL)


async def reachable(cluster: Cluster) -> None:
    """Until the server takes connections."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(OSError, asyncpg.PostgresError):
                await cluster.ask("SELECT 1")
                return
            await asyncio.sleep(0.05)


def _owner() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(OWNER)
    except KeyError:
        pytest.skip(f"there is no user {OWNER} to run a server")


def _children(leader: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{leader}/task/{leader}/children").read_text().split()]


def _is_dead(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
