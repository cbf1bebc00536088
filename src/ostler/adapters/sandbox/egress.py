"""The only way out of a sandbox without network: a proxy that lets named hosts through and remembers who asked.

It listens inside and runs outside: a listening socket belongs to the network that it was made in, so a few lines that
run before the command (`DOOR`) make one there and hand it out. Nothing of the proxy is inside but that socket.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import msgspec

from ostler.adapters.sandbox.process import Egress, cancelled, readable
from ostler.kernel.errors import ConfigurationError

PORT = 3128
"""Where the proxy listens inside."""

RULES: Mapping[str, str] = {
    "names": "only hosts of the list",
    "ports": "only the ports of the list; 80 and 443 where it names none",
    "literals": "no addresses in place of names",
    "public": "no name that leads to an address inside a house, or to this machine",
}

PORTS = (80, 443)
SEEN_MAX = 100
CONNECTIONS_MAX = 64

DOOR = f"""
import os, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
door = socket.create_server(("127.0.0.1", {PORT}), backlog={CONNECTIONS_MAX})
socket.send_fds(control, [b"d"], [door.fileno()])
control.recv(1)
control.close()
door.close()
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"{{sys.argv[2]}}: {{error.strerror}}", file=sys.stderr)
    sys.exit(127)
"""
"""A Python program: make the socket, hand it out through the descriptor that it is given, become the command."""

_HEAD_BYTES = 16 * 1024
_PIECE = 64 * 1024
_CONNECT_S = 10.0
_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_DROPPED = (b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade", b"host")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host."""


class Host(msgspec.Struct, frozen=True):
    """One entry of an allow-list: a name, or `*.` and the name below which every name is meant."""

    name: str
    ports: tuple[int, ...] = PORTS

    def covers(self, name: str) -> bool:
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return name == self.name


def read_hosts(entries: Sequence[str]) -> tuple[Host, ...]:
    """The allow-list that these say: `example.com`, `*.example.com`, `example.com:8443`.

    Raises `ConfigurationError` for what is none of that, addresses above all.
    """
    return tuple(map(_read_host, entries))


def _read_host(entry: str) -> Host:
    name, colon, port = entry.strip().rstrip(".").lower().partition(":")
    if is_literal(name) or not _NAME.fullmatch(name) or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ConfigurationError(
            f"{entry!r} is no host that commands may be let through to.",
            hint="Write a name, such as pypi.org, *.example.com or example.com:8443; addresses cannot be allowed.",
        )
    return Host(name, (int(port),) if port else PORTS)


class Refused(Exception):
    """The proxy does not let this through."""


class Proxy:
    """Answers HTTP CONNECT and plain HTTP requests; resolves names itself, and connects to what it has checked.

    For CONNECT it sees the name that was asked for, not what is said through the tunnel: a host that serves others,
    too (a content delivery network), leads to them.
    """

    def __init__(
        self, hosts: Sequence[Host], *, rules: frozenset[str] = frozenset(RULES), resolve: Resolve | None = None
    ) -> None:
        self._hosts = hosts
        self._rules = rules
        self._resolve = resolve or _resolve
        self._seen: dict[tuple[str, int, str | None], int] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, door: socket.socket) -> None:
        """Answer whoever connects to this listening socket, until `close`."""
        self._server = await asyncio.start_server(self._welcome, sock=door, limit=_HEAD_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def seen(self) -> tuple[Egress, ...]:
        """What was asked for so far, in the order of the first time."""
        return tuple(Egress(*place, count=count) for place, count in self._seen.items())

    async def check(self, host: str, port: int) -> Sequence[str]:
        """The addresses by which a host may be reached. Raises `Refused`."""
        name = host.rstrip(".").lower()
        if "literals" in self._rules and is_literal(name):
            raise Refused("an address was named instead of a host")
        if "names" in self._rules:
            ports = {port for host in self._hosts if host.covers(name) for port in host.ports}
            if not ports:
                raise Refused("the host is not in the list of allowed hosts")
            if "ports" in self._rules and port not in ports:
                raise Refused("the port is not in the list of allowed hosts")
        try:
            async with asyncio.timeout(_CONNECT_S):
                addresses = await self._resolve(name, port)
        except (OSError, UnicodeError, TimeoutError):
            raise Refused("the host has no address") from None
        if "public" in self._rules and not all(map(is_public, addresses)):
            raise Refused("the host has an address that is not public")
        return addresses

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= CONNECTIONS_MAX:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                    await self._answer(reader, writer)
        except asyncio.CancelledError:
            pass  # by `close`, which waits for it
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        asked = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = asked.hostname or "", asked.port or (443 if method == "CONNECT" else 80)
        try:
            if method != "CONNECT" and asked.scheme != "http":
                raise Refused("only http can be asked for without CONNECT")
            body = 0 if method == "CONNECT" else _body_bytes(head)
            addresses = await self.check(host, port)
            out = await _reach(addresses, port)
        except Refused as refused:
            self._note(host, port, str(refused))
            writer.write(_refusal(str(refused)))
            await writer.drain()
            return
        self._note(host, port, None)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _both_ways((reader, writer), out)
            else:
                path = asked._replace(scheme="", netloc="", fragment="").geturl() or "/"
                out[1].write(_request(method, path, asked.netloc.rpartition("@")[2], head))
                await _body(reader, out[1], body)
                await _pour(out[0], writer)
        finally:
            out[1].close()

    def _note(self, host: str, port: int, refused: str | None) -> None:
        place = host[:253], port, refused
        if place not in self._seen and len(self._seen) >= SEEN_MAX:
            place = "(others)", 0, refused and "refused"
        self._seen[place] = self._seen.get(place, 0) + 1


@asynccontextmanager
async def open_door(proxy: Proxy) -> AsyncIterator[int]:
    """The descriptor to give to `DOOR`. The proxy serves from when that has made its socket until the context ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        opening = asyncio.ensure_future(_opened(ours, proxy))
        try:
            yield theirs.fileno()
        finally:
            await cancelled(opening)
            await proxy.close()


async def _opened(control: socket.socket, proxy: Proxy) -> None:
    await readable(control.fileno())
    _, descriptors, *_ = socket.recv_fds(control, 1, 1)
    await proxy.serve(socket.socket(fileno=descriptors[0]))
    control.send(b"x")


def is_literal(name: str) -> bool:
    """Whether a name is an address, in any of the ways that C libraries read one (`127.1`, `0x7f000001`)."""
    bare = name.strip("[]").partition("%")[0]
    with suppress(ValueError):
        ipaddress.ip_address(bare)
        return True
    with suppress(OSError):
        socket.inet_aton(bare)
        return True
    return False


def is_public(text: str) -> bool:
    """Whether an address is everybody's. What carries another address within itself counts as not public."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address.teredo or address in _TRANSLATED
    ):
        return False
    return address.is_global and not address.is_multicast


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _reach(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for address in addresses:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_S):
                return await asyncio.open_connection(address, port)
    raise Refused("the host does not answer")


def _body_bytes(head: bytes) -> int:
    """How long the body of a request is: what follows it would be a request to who knows whom."""
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
    if any(name.strip() == b"transfer-encoding" for name, *_ in fields):
        raise Refused("a body without a length cannot be let through")
    lengths = {value.strip() for name, _, value in fields if name.strip() == b"content-length"} or {b"0"}
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        raise Refused("a body without a length cannot be let through")
    return int(lengths.pop())


def _request(method: str, path: str, host: str, head: bytes) -> bytes:
    """The request as its host wants it: a path instead of an address, and no second request on the connection."""
    lines = [line for line in head.split(b"\r\n")[1:] if line]
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in _DROPPED]
    first = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close".encode("latin-1")
    return b"\r\n".join([first, *kept, b"", b""])


def _refusal(reason: str) -> bytes:
    text = f"Ostler does not let this through: {reason}.\n".encode()
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + text


async def _both_ways(
    inner: tuple[asyncio.StreamReader, asyncio.StreamWriter], outer: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_pour(inner[0], outer[1]))
        group.create_task(_pour(outer[0], inner[1]))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one to the other, and then its end. A connection that breaks has ended."""
    with suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
    while length and (piece := await reader.read(min(length, _PIECE))):
        writer.write(piece)
        await writer.drain()
        length -= len(piece)
