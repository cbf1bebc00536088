"""Recorded exchanges: what models were asked and replied, in a file of JSON lines, and a provider that answers from it.

A line is `{"digest", "asked", "reply"}`. `asked` is the request without what differs from run to run: ids and times are
replaced by placeholders, calls are numbered anew, limits of length and time are left out. Credentials never reach the
file: headers are not part of a request here, and texts are screened for the forms that secrets have.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.providers.dialect import is_object
from ostler.domain.model import AskedCall, AssistantMessage, ModelRequest, Reply, ToolMessage
from ostler.domain.screening.redaction import redact, redact_json
from ostler.kernel.errors import ConfigurationError, ProviderRejected
from ostler.ports import ModelProvider

SECRETS = ("secret.*",)
TEXTS_KEPT = 8192
"""How many texts are remembered in their recorded form, so that a conversation is not screened anew at every turn."""
AROUND = 40
SHOWN_MAX = 6

_ID = re.compile(
    r"\b[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z\b|[+-]\d\d:?\d\d))?")

Asked = dict[str, Any]


class Exchange(msgspec.Struct, frozen=True):
    """One line of a recording."""

    digest: str
    asked: Asked
    reply: Reply


class Recording:
    """Has `provider` answer, and appends each exchange to the file, in one write. What fails is not recorded."""

    def __init__(self, provider: ModelProvider, path: Path) -> None:
        """Raises `ConfigurationError` if nothing can be written there."""
        self._provider = provider
        self._path = path
        if not os.access(path if path.exists() else path.parent, os.W_OK) or path.is_dir():
            raise ConfigurationError(
                f"No exchanges can be recorded in {path}.", hint="Name a file that can be written."
            )

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        reply = await self._provider.complete(request, on_text)
        asked = as_recorded(request)
        line = msgspec.json.encode(Exchange(digest_of(asked), asked, _screened_reply(reply))) + b"\n"
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                while line:  # in one go, but for what a full disk does
                    line = line[os.write(file, line) :]
            finally:
                os.close(file)
        except OSError as error:
            raise ConfigurationError(f"The exchange cannot be recorded in {self._path}: {error.strerror}.") from error
        return reply

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """As the provider has it."""
        listing: Any = self._provider
        names: list[str] = await listing.list_models(timeout_s=timeout_s)
        return names

    async def close(self) -> None:
        await self._provider.close()


class Recorded:
    """Answers from a recording. A request that was asked more than once gets its replies in their order, then the last.

    One that was never asked is refused, with how the nearest recorded one differs.
    """

    def __init__(self, path: Path) -> None:
        """Raises `ConfigurationError` if there is no recording at `path`."""
        self._path = path
        self._exchanges = list(_read(path))
        self._replies: dict[str, list[Reply]] = {}
        for exchange in self._exchanges:
            self._replies.setdefault(exchange.digest, []).append(exchange.reply)
        self._given: dict[str, int] = {}

    @property
    def models(self) -> list[str]:
        """The models that replied, as `PROVIDER:NAME`, in the order of the file; at least one."""
        return list(dict.fromkeys(exchange.asked["model"] for exchange in self._exchanges))

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        asked = as_recorded(request)
        digest = digest_of(asked)
        replies = self._replies.get(digest)
        if replies is None:
            raise self._unknown(asked)
        number = self._given.get(digest, 0)
        self._given[digest] = number + 1
        reply = replies[min(number, len(replies) - 1)]
        if reply.text:
            on_text(reply.text)
        return reply

    async def close(self) -> None:
        """Nothing is held."""

    def _unknown(self, asked: Asked) -> ProviderRejected:
        nearest = [list(differences(exchange.asked, asked)) for exchange in self._exchanges]
        closest = min(nearest, key=lambda found: (len(found), -_depth(found)))
        number = nearest.index(closest) + 1
        more = [f"and {len(closest) - SHOWN_MAX} more"] if len(closest) > SHOWN_MAX else []
        lines = [f"{place}: {what}" for place, what in closest[:SHOWN_MAX]] + more
        return ProviderRejected(
            f"{self._path.name} has no reply to this request. The nearest is that of line {number}; it differs in\n  "
            + "\n  ".join(lines),
            hint="Record again where the change is meant: delete the file and run with OSTLER_RECORD.",
        )


def as_recorded(request: ModelRequest) -> Asked:
    """What of a request a reply depends upon, as it is recorded."""
    numbers: dict[str, str] = {}
    messages = [_message(message, numbers) for message in request.messages]
    settings = request.settings
    asked: Asked = {
        "model": f"{request.model.provider}:{request.model.name}",
        "system": request.system,
        "messages": messages,
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ],
        "tool_calling": request.model.tools,
        "temperature": settings.temperature,
        "reasoning": settings.reasoning,
        "returns": request.returns,
    }
    seen: dict[str, str] = {}
    asked = _mapped(asked, lambda text: _ID.sub(lambda found: _placeholder(found[0], seen), _plain(text)))
    return {name: value for name, value in asked.items() if value not in (None, "", [])}


def _message(message: Any, numbers: dict[str, str]) -> Asked:
    if isinstance(message, ToolMessage):
        number = numbers.setdefault(message.call, str(len(numbers) + 1))
        return {"role": "tool", "call": number, "name": message.name, "text": message.text}
    said: Asked = {"role": message.__struct_config__.tag, "text": message.text}
    if isinstance(message, AssistantMessage):
        for call in message.calls:
            numbers.setdefault(call.id, str(len(numbers) + 1))
        calls = [{"id": numbers[call.id], "name": call.name, "arguments": call.arguments} for call in message.calls]
        return said | ({"calls": calls} if calls else {})
    return said | ({"images": [image.blob for image in message.images]} if message.images else {})


@lru_cache(maxsize=TEXTS_KEPT)
def _plain(text: str) -> str:
    """Without secrets and times."""
    screened = redact_json(text, SECRETS) if is_object(text) else redact(text, SECRETS)
    return _TIME.sub("<time>", screened.text)


def _placeholder(found: str, seen: dict[str, str]) -> str:
    kind = found.partition("_")[0] if "_" in found else "uuid"
    return seen.setdefault(found, f"<{kind} {len(seen) + 1}>")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def _screened_reply(reply: Reply) -> Reply:
    """Replayed, it leads to the same request as the reply itself: what was redacted there is redacted here."""
    calls = tuple(AskedCall(call.id, call.name, _without_secrets(call.arguments)) for call in reply.calls)
    thoughts = tuple(
        msgspec.structs.replace(thought, raw=_without_secrets(thought.raw), text=_without_secrets(thought.text))
        for thought in reply.reasoning
    )
    return msgspec.structs.replace(reply, text=_without_secrets(reply.text), calls=calls, reasoning=thoughts)


def _without_secrets(text: str) -> str:
    return (redact_json(text, SECRETS) if is_object(text) else redact(text, SECRETS)).text


def digest_of(asked: Asked) -> str:
    """SHA-256 of the request as it is recorded, by which it is found again."""
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def _read(path: Path) -> Iterator[Exchange]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"There is no recording at {path}: {error.strerror}.", hint="Record one first: run with OSTLER_RECORD."
        ) from error
    lines = data.split(b"\n")[:-1]  # what follows the last line end was being written when the process died
    if not lines:
        raise ConfigurationError(f"The recording {path} is empty.", hint="Record one first: run with OSTLER_RECORD.")
    for number, line in enumerate(lines, 1):
        try:
            exchange = msgspec.json.decode(line, type=Exchange)
            if digest_of(exchange.asked) != exchange.digest:
                raise ValueError("it is not the request that was recorded")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"Line {number} of the recording {path} is damaged.", hint="Delete the file and record again."
            ) from error
        yield exchange


def differences(recorded: Asked, asked: Asked) -> Iterator[tuple[str, str]]:
    """Where two requests differ, and how, in the words of who reads a failed test."""
    for name in dict.fromkeys((*recorded, *asked)):
        before, now = recorded.get(name), asked.get(name)
        if name == "messages":
            yield from _in_messages(before or [], now or [])
        elif name == "tools":
            yield from _in_tools(
                {tool["name"]: tool for tool in before or ()}, {tool["name"]: tool for tool in now or ()}
            )
        elif before != now:
            yield name, _change(before, now)


def _in_messages(before: list[Asked], now: list[Asked]) -> Iterator[tuple[str, str]]:
    for number, (old, new) in enumerate(zip_longest(before, now), 1):
        if old == new:
            continue
        place = f"message {number}"
        if old is None or new is None:
            there = "one more here" if old is None else "missing here"
            yield f"{place} ({_who(new or old)})", f"{there}: {_short(str((new or old)['text']))}"
        elif _who(old) != _who(new):
            yield place, f"recorded was {_who(old)}, here is {_who(new)}"
        else:
            for name in dict.fromkeys((*old, *new)):
                if old.get(name) != new.get(name):
                    yield f"{place} ({_who(new)}), {name}", _change(old.get(name), new.get(name))


def _in_tools(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*before, *now)):
        if name not in now:
            yield f"tool {name}", "is not offered here"
        elif name not in before:
            yield f"tool {name}", "was not offered when it was recorded"
        else:
            for part in ("description", "parameters"):
                if before[name][part] != now[name][part]:
                    yield f"tool {name}, {part}", _change(before[name][part], now[name][part])
    if list(before) != list(now) and before.keys() == now.keys():
        yield "tools", "come in another order"


def _who(message: Asked) -> str:
    return f"tool {message['name']}" if message["role"] == "tool" else str(message["role"])


def _change(before: Any, now: Any) -> str:
    """Both sides around the first character that differs."""
    old, new = (value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in (before, now))
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    begin = max(0, same - AROUND // 2)
    return f"recorded {_short(old[begin:])}, here {_short(new[begin:])}"


def _short(text: str) -> str:
    return repr(text if len(text) <= AROUND else text[:AROUND] + "…")


def _depth(found: list[tuple[str, str]]) -> int:
    """How late in the conversation two requests part: of equally many differences, the latest is the most telling."""
    places = [int(place.split()[1].rstrip(",")) for place, _ in found if place.startswith("message ")]
    return min(places, default=0)
