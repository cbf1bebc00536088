"""Live text between the processes of one machine that share a store file: a Unix socket for each that has a worker.

The sockets are in a folder beside the store, `NAME.live`, which like them is for its owner only: whoever cannot read
the store cannot watch either. A watcher asks each of them for one session, and gets lines of JSON as it comes.
"""

import asyncio
import os
import secrets
import socket
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from ostler.adapters.live.memory import MemoryLive, Speaker
from ostler.adapters.live.merge import Take, merged
from ostler.domain.live import Piece
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import StreamId

CONNECTIONS_MAX = 64
HELLO_S = 5.0
SEEK_S = 0.5
"""How often a watcher looks for workers that were not there before."""
HANG_UP_TURNS = 10
"""A connection that was just accepted takes some turns of the loop until it is hung up on."""
PATH_BYTES_MAX = 100
"""A path of more bytes does not fit into the address of a socket everywhere (sun_path: 108 bytes, or 104)."""
OPEN_FILES = Path("/proc/self/fd")
SUFFIX = ".sock"


class UnixLive:
    """A `LiveText` for those who can read the store file."""

    def __init__(self, store: Path) -> None:
        self._store = store.absolute()
        self._folder = Path(f"{self._store}.live")
        self._hub = MemoryLive()
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._server: asyncio.Server | None = None
        self._shown: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self) -> None:
        if self._server is not None:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_uid != os.geteuid() or self._folder.is_symlink():
                raise PermissionError(1, "it belongs to somebody else")
            self._folder.chmod(0o700)
            self._sweep()
            listener = self._listener()
        except OSError as error:
            raise OstlerError(
                f"What models say cannot be watched from other processes: {self._folder}: {error.strerror}."
            ) from error
        self._server = await asyncio.start_unix_server(self._show, sock=listener)

    def begin(self, stream: StreamId, call: str, attempt: int, *, withheld: str = "") -> Speaker:
        return self._hub.begin(stream, call, attempt, withheld=withheld)

    async def watch(self, stream: StreamId) -> AsyncGenerator[Piece, None]:
        async with aclosing(merged(partial(self._seek, stream))) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in self._shown.values():
            writer.transport.abort()
        await asyncio.gather(*self._shown, return_exceptions=True)
        for _ in range(HANG_UP_TURNS):
            await asyncio.sleep(0)
        with suppress(OSError):
            (self._folder / self._name).unlink()
        with suppress(OSError):
            self._folder.rmdir()

    def _listener(self) -> socket.socket:
        """A socket that can be found as soon as it answers, and not before."""
        new = self._folder / f"{self._name}.new"
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.setblocking(False)
            with _address(new) as address:
                listener.bind(address)
            new.chmod(0o600)
            listener.listen(CONNECTIONS_MAX)
            new.rename(self._folder / self._name)
        except BaseException:
            listener.close()
            with suppress(OSError):
                new.unlink()
            raise
        return listener

    def _sweep(self) -> None:
        """Take away the sockets of processes that are gone."""
        for path in self._folder.iterdir():
            with suppress(OSError):
                if stat.S_ISSOCK(path.stat().st_mode) and _is_dead(path):
                    path.unlink()

    async def _show(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Show one session to somebody, until they go. A reader who does not read is waited for here alone."""
        task = asyncio.current_task()
        assert task is not None
        self._shown[task] = writer
        telling: asyncio.Task[None] | None = None
        try:
            if self._server is None or len(self._shown) > CONNECTIONS_MAX:
                return
            async with asyncio.timeout(HELLO_S):
                stream = StreamId(*msgspec.json.decode(await reader.readline(), type=tuple[str, str]))
            telling = asyncio.create_task(self._tell(stream, writer))
            await reader.read(1)  # nothing more comes, but the end
        except (OSError, TimeoutError, ValueError):
            return
        finally:
            writer.transport.abort()
            del self._shown[task]
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self, stream: StreamId, writer: asyncio.StreamWriter) -> None:
        with self._hub.watching(stream) as watcher:
            while True:
                writer.write(msgspec.json.encode(await watcher.next()) + b"\n")
                await writer.drain()

    async def _seek(self, stream: StreamId, take: Take) -> None:
        """Watch in this process, and in every other that can be found."""
        sources = {self._name: asyncio.create_task(self._listen_here(stream, take))}
        try:
            while True:
                for name in self._found():
                    if name not in sources or sources[name].done():
                        sources[name] = asyncio.create_task(self._listen_to(name, stream, take))
                await asyncio.sleep(SEEK_S)
                sources = {name: task for name, task in sources.items() if not task.done()}
        finally:
            for task in sources.values():
                task.cancel()
            await asyncio.gather(*sources.values(), return_exceptions=True)

    def _found(self) -> list[str]:
        """The sockets of others, if nobody could have put them there but who has the store."""
        try:
            held, owner = self._folder.lstat(), os.geteuid() or self._store.stat().st_uid
            if not stat.S_ISDIR(held.st_mode) or held.st_mode & 0o022 or held.st_uid != owner:
                return []
            return [name for name in os.listdir(self._folder) if name.endswith(SUFFIX) and name != self._name]
        except OSError:
            return []

    async def _listen_here(self, stream: StreamId, take: Take) -> None:
        with self._hub.watching(stream) as watcher:
            while True:
                await take(await watcher.next())

    async def _listen_to(self, name: str, stream: StreamId, take: Take) -> None:
        """Until that process is gone; the socket of one that is gone already is taken away."""
        try:
            with _address(self._folder / name) as address:
                reader, writer = await asyncio.open_unix_connection(address)
        except ConnectionRefusedError:
            with suppress(OSError):
                (self._folder / name).unlink()
            return
        except OSError:
            return
        try:
            writer.write(msgspec.json.encode((stream.tenant, stream.name)) + b"\n")
            while line := await reader.readline():
                await take(msgspec.json.decode(line, type=Piece))
        except (OSError, ValueError):
            return
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path, or a shorter way to the same place where it does not fit into an address. Raises `OSError`."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(OPEN_FILES / str(folder) / path.name)
    finally:
        os.close(folder)


def _is_dead(path: Path) -> bool:
    with _address(path) as address, socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            caller.connect(address)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
