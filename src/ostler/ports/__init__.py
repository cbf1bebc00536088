"""What Ostler needs of the world. Each contract is written once, here, and tested by `ostler.testing.contracts`."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from ostler.domain.budget import Draw, Holder, Refused, Reserved, Total, Unit
from ostler.domain.capacity import Limit, Place, Wait
from ostler.domain.live import Piece
from ostler.domain.model import ModelRequest, Reply
from ostler.domain.resilience.breaker import Admitted, Breaker, Change, Key, Open, Outcome, State
from ostler.domain.scheduling import NO_CAPS, Caps
from ostler.domain.secret import Secret
from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec
from ostler.kernel.event import Record, StreamId


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a stream stands for those who look for work, kept beside its events and derivable from them.

    `queue` is whose workers may take it (the agent's name), `status` what lists filter by, and `due_us` when it next
    needs a worker: a moment in the past is now, None is not before something is appended. Of what is due, higher
    `priority` goes first.
    """

    queue: str
    status: str
    due_us: int | None
    priority: int = 0


class Append(msgspec.Struct, frozen=True, gc=False):
    """Events to be added to one stream, all or none.

    `records` are numbered from `expected + 1`. `standing` None leaves it as it is; the first append of a stream names
    one. `epoch` is the fence: given, the append is refused if another worker has claimed the stream since. Without
    records it only changes the standing.
    """

    stream: StreamId
    expected: int
    records: Sequence[Record]
    standing: Standing | None = None
    epoch: int | None = None


class StreamInfo(msgspec.Struct, frozen=True):
    """`number` orders streams by creation in this store; `worker` holds it now, or held it when it died."""

    stream: StreamId
    number: int
    version: int
    standing: Standing
    worker: str | None


class Claim(msgspec.Struct, frozen=True):
    """A worker's hold on a stream. Every claim has a higher `epoch` than the one before.

    `attempts` counts the claims since the stream was last released or vouched for, this one included: more than one
    says that workers died or fell silent with it in their hands.
    """

    stream: StreamId
    epoch: int
    attempts: int = 1


class StatusCount(msgspec.Struct, frozen=True):
    """How many streams of a tenant have this status."""

    tenant: str
    status: str
    count: int


class QueueCount(msgspec.Struct, frozen=True):
    """What of a tenant and queue needs a worker at some time and is in nobody's hands.

    `due` are those that need one now, the longest waiting since `oldest_us` (None: there are none), and `later` the
    others. Priorities are those of both.
    """

    tenant: str
    queue: str
    due: int
    later: int
    oldest_us: int | None
    priority_min: int
    priority_max: int


class HeldCount(msgspec.Struct, frozen=True):
    """How many streams of a tenant and queue are in the hands of a worker, alive or not."""

    worker: str
    tenant: str
    queue: str
    count: int


class Suspect(msgspec.Struct, frozen=True):
    """A stream that was taken `attempts` times, last at `claimed_us`, and not let go of in good order between."""

    stream: StreamId
    queue: str
    status: str
    attempts: int
    claimed_us: int
    worker: str | None


class Census(msgspec.Struct, frozen=True):
    """How the streams of all tenants stand. `is_whole` is False where there was more than is counted here.

    `statuses` and `queues` are in the order of their names, `held` too, and of the `suspects` those with most attempts
    come first.
    """

    statuses: list[StatusCount]
    queues: list[QueueCount]
    held: list[HeldCount]
    suspects: list[Suspect]
    is_whole: bool = True


CENSUS_GROUPS_MAX = 1_000
"""Tenants with a status, and tenants with a queue and a priority, that a census counts."""
CENSUS_SUSPECTS_MAX = 50


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, why it matters, what to do about it.

    `warn` can be lived with, `bad` is needed and broken.
    """

    name: str
    verdict: Literal["ok", "warn", "bad"]
    found: str
    todo: str = ""
    why: str = ""


class EventStore(Protocol):
    """Append-only streams with optimistic locking, one order over all of them, and leases on streams.

    Guarantees: an append is atomic and durable when it returns; of two appends with the same `expected` one succeeds;
    `position` order equals commit order, so that whoever reads from a position misses nothing; a stale append in a
    group fails alone. Times are microseconds since 1970 and come from the caller.
    """

    async def append(self, append: Append) -> int:
        """Add the records and return the position of the last; positions grow in the order given.

        Raises `StaleWrite` if the stream is not at `expected` or the epoch is not the current one, `StoreFull`,
        `StoreBusy` (nobody could write for too long); whatever is raised, nothing of it was written, except with
        `StoreUnreachable`: then nobody knows, and the very same append tells when it is tried again.
        """
        ...

    async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """The records of one stream with `seq > after`, in order; empty if there is no such stream."""
        ...

    async def tail(self, *, after: int = 0, limit: int = 1000) -> list[Record]:
        """The records of all streams and tenants with `position > after`, in order of position."""
        ...

    async def head(self) -> int:
        """The last position, 0 in an empty store."""
        ...

    async def streams(
        self,
        tenant: str,
        *,
        prefix: str = "",
        statuses: Sequence[str] = (),
        queue: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[StreamInfo]:
        """Streams of one tenant, newest first, whose name starts with `prefix`; `before` pages on by `number`."""
        ...

    async def wait(self, *, after: int, timeout_s: float, foreign: bool = False, stream: StreamId | None = None) -> int:
        """Return the last position as soon as it is greater than `after`; at timeout, return `after`.

        `foreign` waits for writes of other processes only (a store that cannot tell wakes for all); `stream` spares the
        caller the writes of this process to other streams. A hint that may come late or for nothing, never the truth:
        callers read again.
        """
        ...

    async def knocks(self, *, after: int) -> tuple[int, dict[StreamId, int]]:
        """Which streams were appended to from outside, without a fence, since `after`: their versions then.

        And the position to go on from. That is what a worker must notice; there may be others among them, and they may
        come in several portions, the last of which is empty.
        """
        ...

    async def beat(self, worker: str, *, until_us: int) -> None:
        """The worker lives until `until_us`; its claims hold as long."""
        ...

    async def claim(
        self,
        worker: str,
        *,
        now_us: int,
        limit: int,
        queues: Sequence[str] | None = None,
        only: StreamId | None = None,
        caps: Caps = NO_CAPS,
        suspects: int = 1,
    ) -> list[Claim]:
        """Take streams that are due and held by no living worker, of these queues (None: all), in their order.

        Which of them, and in what order, is what `ostler.domain.scheduling.choose` says; where there are very many
        tenants or agents, of some of them at a time. Frees what dead workers held. `only` narrows it to one stream.
        What was taken and could not be told, because an answer was lost, is told by the next claim of the worker.
        """
        ...

    async def vouch(self, worker: str, streams: Sequence[StreamId]) -> None:
        """These streams, which the worker holds, do well: earlier attempts count no more."""
        ...

    async def release(self, worker: str, streams: Sequence[StreamId]) -> None:
        """Let go of these claims in good order."""
        ...

    async def workers(self) -> list[tuple[str, int]]:
        """Every worker that has beaten and not retired, with the moment until which it lives."""
        ...

    async def census(self, *, now_us: int, without: Sequence[str] = (), most: int = 10_000) -> Census:
        """Count the streams by where they stand, but for those with a status of `without`, which cost nothing.

        Quick however many streams there are: no count goes beyond `most`, and of very many tenants, queues and
        priorities the first `CENSUS_GROUPS_MAX` are counted; only what workers hold is counted whole. The parts may be
        of slightly different moments.
        """
        ...

    async def retire(self, worker: str) -> None:
        """Forget a worker that has stopped or died, and with it all its claims."""
        ...

    async def remove(self, streams: Mapping[StreamId, int], note: Append) -> None:
        """Delete these streams, each at the version given, and append `note` to another one, all or nothing.

        Raises `StaleWrite` if one of them is at another version, is due, or is in a worker's hands, and `Conflict` if
        the newest stream of the store is among them: numbers and positions are never used twice.
        """
        ...

    async def erase(self, stream: StreamId, version: int, *notes: Append, only: Sequence[int] | None = None) -> None:
        """Put `ERASED` in place of the data of all its events, give it `ERASED` standing, and append `notes` elsewhere.

        With `only`, in place of the data of the events with these numbers and of no others: then the stream stands
        where it stood, and one of the notes may be its own next event. There is at least one note, and each is to
        another stream. All or nothing; what was there is also gone
        from the files of the store, as far as the store can see to it. Raises `StaleWrite` like `remove`, and
        `UsageError` for an event that is not there.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the store. Idempotent."""
        ...


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a view. `body` None takes the row away."""

    tenant: str
    key: str
    body: bytes | None


class ViewStore(Protocol):
    """Rows of read models, and how far each of them has read the log.

    Whoever reads the log in order, a view or a relay, has a name here and a position; the rows that come of what it
    read and the position move together or not at all, so that every event counts exactly once.
    """

    async def position(self, view: str) -> int:
        """Up to where `view` has read the log; 0 if it has not begun."""
        ...

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        """Put these rows in place of those with the same key, and move the view from `after` on to `position`.

        Atomic and durable when it returns. Raises `StaleWrite` if the view is not at `after`: somebody else has moved
        it, and nothing was written.
        """
        ...

    async def rows(self, view: str, tenant: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those rows that there are, by key."""
        ...

    async def page(self, view: str, tenant: str, *, after: str = "", limit: int = 100) -> list[tuple[str, bytes]]:
        """Keys greater than `after` with their bodies, in the order of their UTF-8 bytes."""
        ...

    async def forget(self, view: str) -> None:
        """Delete the rows and the position of a view, so that it begins anew."""
        ...


class EventBus(Protocol):
    """Where others take events from: a broker, a webhook, or the process itself."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Hand over these records, in order; each is kept there when this returns.

        Raises a `BusError` if it could not; some of them may be there all the same, and are handed over again. Whoever
        takes them tells repeated ones by their id. Raises `EventRefused` for one that can never be taken: those before
        it are there, those after it were not handed over. Either leaves no gap: once repeats are dropped, the order is
        that of the log (of each stream, where a broker keeps the streams apart).
        """
        ...

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""
        ...


class Limiter(Protocol):
    """Places under limits that all workers share, told apart by the limits' names."""

    async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
        """Take one place under each of these limits, or under none of them; atomic among all who ask.

        What to do then is what `ostler.domain.capacity.judge` says: begin, or ask again after a while. Whoever asks
        again in time keeps its place in the line of the limit that was in the way, and nobody behind it goes first.
        A place that the same holder has under these limits already is replaced by this one. Whoever dies with places
        or in a line keeps nobody waiting for longer than until they expire.
        """
        ...

    async def give_back(self, places: Sequence[Place]) -> None:
        """Give these back, and leave their lines. What the same holder has taken since stays, and a rate stays used."""
        ...


class Ledger(Protocol):
    """Accounts that calls reserve on before they begin and settle after their end; all workers share them.

    What was reserved counts until the call is settled or released, whoever died meanwhile: a call of which nobody knows
    whether it happened may have spent the money. A reservation is durable when it is made; a settlement that a crash of
    the store forgets is overdue later, like one that nobody came to make.
    """

    async def reserve(self, holder: Holder, draws: Sequence[Draw], *, now_us: int, until_us: int) -> Reserved | Refused:
        """Reserve on all of these accounts, which differ, or on none of them; atomic among all who ask.

        Whoever reserves again replaces what it had reserved, is told the same warnings again, and keeps what it had
        where it is refused. What is settled stays settled; reserving it again changes nothing. From `until_us` on the
        reservation is overdue.
        """
        ...

    async def settle(self, holder: Holder, used: Mapping[Unit, int] | None, *, now_us: int) -> None:
        """Count what was `used` in place of what was reserved; in units that are not named, what was reserved (None:
        all of it). It counts where it was reserved, even if that period is over. Only the first time changes anything.
        """
        ...

    async def release(self, holder: Holder) -> None:
        """Count nothing of it, unless it is settled: the call never happened."""
        ...

    async def overdue(self, *, now_us: int, again_us: int, limit: int = 100) -> list[Holder]:
        """Calls that should have been settled by now, the longest overdue first; not told again before `again_us`."""
        ...

    async def totals(self, tenant: str, accounts: Sequence[str], *, now_us: int) -> dict[str, Total]:
        """What these accounts of a tenant (`FLEET`: of all tenants together) have; nothing where nothing was used."""
        ...

    async def accounts(self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        """Names of accounts on which something counts, greater than `after`, in the order of their UTF-8 bytes."""
        ...

    async def forget(self, *, now_us: int) -> None:
        """Drop what was settled `KEPT_SETTLED_US` ago, and accounts that ended `KEPT_ENDED_US` ago; some at a time."""
        ...


class Breakers(Protocol):
    """The breakers of providers and tools, as they stand. What opens and closes them: `domain.resilience.breaker`.

    Each operation is atomic among all who share these. It never fails for want of a server: what keeps states
    elsewhere goes on with states of its own, and says so. Times are the callers'.
    """

    async def admit(self, key: Key, settings: Breaker, *, now_us: int) -> Admitted | Open:
        """Whether a call may begin. Of those who ask at an open breaker whose wait is over exactly one is admitted.

        Whatever is admitted must be reported, also if it is cancelled: a probe of which nothing is heard keeps all
        others waiting for `settings.probe_s`.
        """
        ...

    async def report(
        self, admitted: Admitted, settings: Breaker, outcome: Outcome, *, now_us: int, because: str = ""
    ) -> Change | None:
        """What came of a call that was admitted, and why it failed. Returns what that changed for others, if anything.

        Of several who could have brought a change about, one is told.
        """
        ...

    async def look(self, key: Key, *, now_us: int) -> Open | None:
        """What a call that asks now would be told if it were refused. Looking changes nothing."""
        ...

    async def reset(self, key: Key) -> Change | None:
        """Close it, whatever was known."""
        ...

    async def states(self, tenant: str) -> dict[Key, State]:
        """What is known of the breakers of a tenant (`*`: of all tenants). Raises `BreakersUnshared`."""
        ...

    async def close(self) -> None: ...


class BlobStore(Protocol):
    """Bodies too large for events, by the SHA-256 of their content. Nothing crosses a tenant."""

    async def put(self, stream: StreamId, body: bytes) -> str:
        """Keep `body` durably for this stream and return its hash, 64 hexadecimal digits.

        Keeping it twice changes nothing.
        """
        ...

    async def share(self, stream: StreamId, digests: Sequence[str]) -> None:
        """Keep bodies that are there already for this stream, too."""
        ...

    async def drop(self, streams: Sequence[StreamId]) -> None:
        """Delete the bodies that were kept for these streams and for no other."""
        ...

    async def get(self, tenant: str, digest: str) -> bytes:
        """Raises `NotFound`, or `StoreCorrupt` if the content is no longer what the hash says."""
        ...


class LiveReply(Protocol):
    """A reply under way, as its publisher has it."""

    @property
    def say(self) -> Callable[[str], None]:
        """Takes the next text of it. Never waits for anybody and never raises; costs next to nothing unwatched."""
        ...

    def end(self) -> None:
        """No more comes of it, whatever became of it."""
        ...


class LiveText(Protocol):
    """What models say while they say it, for those who may read the session. It is never history: text may be missing,
    and what is in the log is the truth. Nobody who publishes waits for anybody who watches.
    """

    async def serve(self) -> None:
        """Let other processes watch what is said in this one. Idempotent. Raises an `OstlerError` if they cannot."""
        ...

    def begin(self, stream: StreamId, call: str, attempt: int, *, withheld: str = "") -> LiveReply:
        """A reply begins to come. With `withheld` nothing of it is shown but this, why that is so."""
        ...

    def watch(self, stream: StreamId) -> AsyncGenerator[Piece, None]:
        """What is said in a session from now on, wherever it runs, after what came so far of the reply under way.

        It never ends by itself. To those who read too slowly, or begin late, offsets tell what was left out.
        """
        ...

    async def close(self) -> None:
        """Show nothing more. Idempotent."""
        ...


class ModelProvider(Protocol):
    """Reaches models of one dialect."""

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        """Ask once, without retries, and return the whole reply; `on_text` gets text as it arrives, for eyes only.

        Raises a `ProviderError` for everything else, `IncompleteReply` if the reply broke off: half of a reply is
        never returned. Cancelling closes the connection.
        """
        ...

    async def close(self) -> None: ...


class ToolHost(Protocol):
    """Performs calls of the tools that it has. It is told what to do by the performer, after the gate, and by nobody
    else.
    """

    def specs(self) -> Sequence[ToolSpec]: ...

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        """Do it once. Failures are outcomes; only `ToolError`s and bugs are raised.

        Cancelling stops it: child processes are dead when the cancellation is through.
        """
        ...

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        """What came of the call with this key, if it happened; None if it did not. Only for `reconcilable` tools."""
        ...

    async def close(self) -> None: ...


class Vault(Protocol):
    """Keeps the credentials of tools. Nothing crosses a tenant."""

    async def get(self, tenant: str, name: str) -> Secret:
        """The secret of this tenant with this name. Raises `SecretMissing`, `VaultError`, `ConfigurationError`."""
        ...

    async def names(self, tenant: str) -> Sequence[str]:
        """The names of what this tenant has here, in order. Raises `VaultError`."""
        ...


class Clock(Protocol):
    """What time it is."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def chance(self, size: int) -> bytes:
        """`size` bytes that nobody can predict (or, in a test, that a seed determines)."""
        ...
