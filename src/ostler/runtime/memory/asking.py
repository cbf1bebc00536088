"""Who asks for memories by a call, what that reaches, and in what form memories are told to sessions."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ostler.domain.memory.episode import EPISODE
from ostler.domain.memory.memory import Source
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.scope import Level, Scope
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.provenance import PRIVATE, UNTRUSTED
from ostler.domain.tool import Taint, ToolOutcome, ToolRequest
from ostler.kernel.errors import NotAllowed, UsageError
from ostler.ports.memory import Entry

ANSWER_BYTES_MAX = 30 * 1024
"""The longest answer, as JSON: a longer one would leave the event, and its labels with it."""
UNKNOWN = Taint((PRIVATE, UNTRUSTED))
"""What a text may be made of if nobody has said it: the worst."""


class Asking(NamedTuple):
    """One call of a tool of memory. Whose memories it reaches follows from the session, and never from arguments."""

    reader: Scope
    settings: MemorySettings
    taint: Taint
    source: Source
    attempt: int

    @property
    def call(self) -> str:
        return self.source.call

    @property
    def is_untrusted(self) -> bool:
        """Whether what it says may be made of what outsiders wrote."""
        return UNTRUSTED in self.taint.labels

    def writable(self, level: Level | None = None) -> Scope:
        """The scope of this level (None: the one of the agent's memories). Raises `NotAllowed` if it may not write."""
        wanted = level or self.settings.level
        if wanted not in self.settings.writes:
            levels = ", ".join(self.settings.writes) or "none"
            raise NotAllowed(
                f"This agent may not write memories at the level {wanted!r}.", hint=f"It may at: {levels}."
            )
        return self.reader.at(wanted)


def asking(request: ToolRequest) -> Asking:
    """What a request reaches. Raises `NotAllowed` if the session's agent has no memory."""
    if request.memory is None or not request.agent or not request.user:
        raise NotAllowed("This agent has no memory.", hint="Its definition gives it one: `[memory]` in its file.")
    session, _, call = request.key.partition("/")
    taint = request.taint or UNKNOWN
    is_users_own = taint.sources == ("user",) and not taint.labels
    writer = f"user:{request.user}" if is_users_own else f"agent:{request.agent}"
    if call == EPISODE:
        writer = "runtime"
    return Asking(
        reader=Scope(request.tenant, request.agent, request.user, session),
        settings=request.memory,
        taint=taint,
        source=Source(writer, request.key, taint.sources),
        attempt=request.attempt,
    )


def answered(found: Recollections) -> ToolOutcome:
    """What a call that recalls is answered: as many as there is room for, in their order, and how many are left out."""
    kept: list[Recollection] = []
    left = ANSWER_BYTES_MAX - len(msgspec.json.encode(msgspec.structs.replace(found, memories=())))
    for one in found.memories:
        left -= len(msgspec.json.encode(one)) + 1
        if left < 0:
            break
        kept.append(one)
    cut = len(found.memories) - len(kept)
    told = Recollections(tuple(kept), found.left_out + cut, found.missing)
    return ToolOutcome(ok=True, output=msgspec.json.encode(told).decode(), is_json=True)


def united(labels: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The labels of what is made of two texts."""
    return tuple(sorted({*labels, *others}))


def check_may_end(asked: Asking, entries: Iterable[Entry]) -> None:
    """Raises `NotAllowed` if one of these is not to be taken out of force by this call.

    What may be made of outsiders' words ends no memory that they had no part in: it could make an agent forget what
    stands in their way.
    """
    for entry in entries:
        asked.writable(entry.scope.level)
        if asked.is_untrusted and UNTRUSTED not in entry.memory.labels:
            raise NotAllowed(
                f"{entry.memory.id} is trusted, and this session has read what outsiders wrote, so that it cannot "
                "forget it.",
                hint=f"A person can: ostler memory forget {entry.memory.id}",
            )


def check_no_path(key: str, root: str) -> None:
    """Raises `UsageError` for a key that is the path of a file."""
    if key.startswith(root):
        raise UsageError(f"key: {root} is where files are kept; they are written with the tool of files.")
