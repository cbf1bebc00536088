"""What is handed over of a record, and how a target is named without its credentials."""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import msgspec

from ostler.kernel.event import Record, to_cloudevent

CONTENT_TYPE = "application/cloudevents+json"
"""Structured mode: the whole event is the body, so that it is the same on every broker and survives any bridge."""

_PREFIX = "dev.ostler."


class Envelope(NamedTuple):
    """A record as it travels: `id` is the same however often it is handed over, and that of no other record."""

    position: int
    id: str
    type: str
    body: bytes


def envelope(record: Record) -> Envelope:
    """The record in its envelope."""
    event = to_cloudevent(record)
    tenant, name = record.stream
    own = f"{quote(tenant, safe='')}/{quote(name, safe='')}/{record.seq}"
    return Envelope(record.position, own, event["type"].removeprefix(_PREFIX), msgspec.json.encode(event))


class Server(NamedTuple):
    """One host and its port."""

    host: str
    port: int | None

    def at(self, port: int) -> str:
        """As `host:port`, with this port if the address names none."""
        return f"{_bracketed(self.host)}:{self.port or port}"


class Address(NamedTuple):
    """Where a target is. `shown` is what may be printed of it."""

    scheme: str
    servers: tuple[Server, ...]
    path: str
    user: str
    password: str
    query: str

    @property
    def shown(self) -> str:
        hosts = ",".join(_bracketed(host) + (f":{port}" if port else "") for host, port in self.servers)
        return f"{self.scheme}://{hosts}{self.path}"

    def hide(self, text: str, *secrets: str) -> str:
        """`text` without the credentials of this address, or any of these secrets."""
        for secret in (self.password, quote(self.password, safe=""), self.query, *secrets):
            if secret:
                text = text.replace(secret, "[secret]")
        # What stands before the @ of an address, in whatever spelling a library repeats it.
        return re.sub(r"(?<=://)[^/\s@]*@", "", text)


def address(url: str) -> Address:
    """The parts of a URL, which may name several servers, separated by commas.

    Raises `ValueError`, which does not show it, if it is none.
    """
    try:
        parts = urlsplit(url)
        servers = []
        for host in parts.netloc.rpartition("@")[2].split(","):
            one = urlsplit(f"//{host}")
            servers.append(Server(one.hostname or "", one.port))
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if not parts.scheme or not all(server.host for server in servers):
        raise ValueError("is not a URL with a host")
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return Address(parts.scheme, tuple(servers), parts.path, unquote(user), unquote(password), parts.query)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def reason(error: BaseException) -> str:
    """What a library says went wrong, as the middle of a sentence."""
    said = str(error).strip().rstrip(".") or type(error).__name__
    return said if len(said) <= 300 else f"{said[:300]} …"
