"""Every error that Ostler raises, as one tree.

    OstlerError
    ├── UsageError                what was asked makes no sense as asked
    │   ├── DefinitionInvalid     an agent, tool, rule or settings file: every problem with its path
    │   │   └── PolicyInvalid     rules, with the line and a caret below the place
    │   ├── ConfigurationError    a setting is missing or contradicts another
    │   ├── DimensionMismatch     a vector is not as long as those that it is to stand beside
    │   ├── GraphInvalid          a graph as it is has no answer to this
    │   │   ├── GraphCyclic       it goes round in circles
    │   │   └── GraphTooLarge     the answer would be larger than may be
    │   ├── GrantWidened          more is wanted of a grant than it gives
    │   └── NotAStore             what was named as a store is something else
    ├── NotFound                  no such session, agent, call, blob …
    │   ├── SecretMissing         no vault has a secret of this name
    │   └── Erased                its content was erased
    ├── Conflict                  the state of things does not allow it (any more)
    │   ├── Halted                nothing may begin in this tenant until it is released
    │   ├── FitnessFailing        a fitness target fails, or stands in the way
    │   ├── QuotaExceeded         a scope of memory holds as much as it may
    │   ├── StaleWrite            somebody else appended first
    │   └── LeaseLost             another worker has taken the session
    ├── NotAllowed                whoever asks may not do that
    │   └── TokenRefused          a token that proves nothing here, or nothing any more
    ├── VaultError                a vault cannot be opened or written
    ├── StoreError
    │   ├── StoreBusy             another process holds the store
    │   ├── StoreUnreachable      its server does not answer
    │   ├── StoreFull             no space left
    │   ├── StoreReadOnly         it can be read, but not be written to
    │   ├── StoreCorrupt          damaged
    │   └── UnknownEvent          an event that this version cannot read
    ├── BusError                  a broker or a webhook does not take events
    │   └── EventRefused          … and never will take this one
    ├── Shed                      this process has too much to do at the moment
    ├── BreakersUnshared          the server on which workers share circuit breakers does not answer
    ├── CircuitOpen               it failed too often of late, and is left alone for a while
    ├── ProviderError             a model could not answer
    │   ├── ProviderUnreachable   no connection, or it broke before a reply began
    │   ├── ProviderTimeout
    │   ├── RateLimited           429, with `retry_after_s` where the provider names one
    │   ├── ProviderOverloaded    5xx, 529
    │   ├── IncompleteReply       the stream ended before the reply did
    │   ├── ProviderRejected      4xx: retrying the same request cannot help
    │   │   └── ContextTooLong    … but a shorter one would
    │   └── ProviderGarbled       what came back is not the promised format
    ├── EmbedderError             texts cannot be turned into vectors now
    │   └── TextRefused           this text cannot be, however often it is tried
    ├── GraphUnavailable          the process that works on graphs failed, or took too long
    ├── ToolError                 a tool failed; the model is told
    │   ├── ToolNotFound          no implementation here
    │   ├── ToolTimeout
    │   └── SandboxUnavailable    isolation was asked for and cannot be had
    └── ReplayDiverged            today's code decides otherwise than the log says

The docstring is the default message; `code` is stable; `retryable` says whether the same thing may work later;
`hint` says what to do. Secrets never go into a message.
"""

from typing import Any, ClassVar


class OstlerError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, hint: str = "", **facts: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.facts = facts
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """`{code, message, hint, retryable, facts}`: the public JSON shape of an error."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "facts": self.facts,
        }


class UsageError(OstlerError):
    """What was asked makes no sense as asked."""

    code = "usage"


class DefinitionInvalid(UsageError):
    """A definition is invalid."""

    code = "definition_invalid"

    def __init__(self, source: str, problems: list[tuple[str, str]], *, hint: str = "") -> None:
        """`problems` are (path within `source`, what is wrong there), all of them."""
        self.source = source
        self.problems = problems
        lines = "".join(f"\n  {path or '(top level)'}: {problem}" for path, problem in problems)
        super().__init__(
            f"{source} has {len(problems)} problem{'s' if len(problems) != 1 else ''}:{lines}",
            hint=hint or "Correct the paths named above and try again.",
            problems=[{"path": path, "problem": problem} for path, problem in problems],
        )


class PolicyInvalid(DefinitionInvalid):
    """A policy is invalid."""

    code = "policy_invalid"


class ConfigurationError(UsageError):
    """A setting is missing or contradicts another."""

    code = "configuration"


class NotAStore(UsageError):
    """This is not an Ostler store; it was not touched."""

    code = "not_a_store"


class DimensionMismatch(UsageError):
    """A vector is not as long as those that it is to stand beside."""

    code = "dimension_mismatch"


class GraphInvalid(UsageError):
    """The graph as it is has no answer to this."""

    code = "graph_invalid"


class GraphCyclic(GraphInvalid):
    """The graph goes round in circles."""

    code = "graph_cyclic"


class GraphTooLarge(GraphInvalid):
    """The answer would be larger than it may be."""

    code = "graph_too_large"


class GrantWidened(UsageError):
    """More is wanted of a grant than it gives."""

    code = "grant_widened"


class NotFound(OstlerError):
    """There is no such thing here."""

    code = "not_found"


class SecretMissing(NotFound):
    """No vault has a secret of this name."""

    code = "secret_missing"


class Erased(NotFound):
    """Its content was erased."""

    code = "erased"


class Conflict(OstlerError):
    """The state of things does not allow this (any more)."""

    code = "conflict"


class Halted(Conflict):
    """Nothing may begin here until it is released."""

    code = "halted"
    retryable = True


class FitnessFailing(Conflict):
    """A fitness target fails: the system that agents work on is not as healthy as it should be."""

    code = "fitness_failing"
    retryable = True


class QuotaExceeded(Conflict):
    """A scope of memory holds as much as it may."""

    code = "quota_exceeded"


class StaleWrite(Conflict):
    """Somebody else wrote to this stream first; nothing was written."""

    code = "stale_write"
    retryable = True


class LeaseLost(Conflict):
    """Another worker has taken this session."""

    code = "lease_lost"


class NotAllowed(OstlerError):
    """Whoever asks may not do that."""

    code = "not_allowed"


class TokenRefused(NotAllowed):
    """This token proves nothing here, or nothing any more."""

    code = "token_refused"


class VaultError(OstlerError):
    """The vault cannot be opened or written."""

    code = "vault"


class StoreError(OstlerError):
    """The store failed."""

    code = "store"


class StoreBusy(StoreError):
    """Another process is holding the store; nothing was written."""

    code = "store_busy"
    retryable = True


class StoreUnreachable(StoreError):
    """The server of the store does not answer."""

    code = "store_unreachable"
    retryable = True


class StoreFull(StoreError):
    """There is no space left for the store; nothing was written and nothing acknowledged is lost."""

    code = "store_full"
    retryable = True


class StoreReadOnly(StoreError):
    """The store can be read, but not be written to; nothing was written."""

    code = "store_read_only"


class StoreCorrupt(StoreError):
    """The store is damaged; it was not touched."""

    code = "store_corrupt"


class UnknownEvent(StoreError):
    """The log holds an event that this version cannot read."""

    code = "unknown_event"

    def __init__(self, *, tag: str, problem: str) -> None:
        super().__init__(
            f"The log holds an event {tag!r} that this version cannot read: {problem}.",
            hint="It was probably written by a newer version of Ostler: upgrade this one.",
            tag=tag,
        )


class BusError(OstlerError):
    """Events could not be handed over."""

    code = "bus"
    retryable = True

    def __init__(
        self, message: str = "", *, kept: int = 0, retry_after_s: float | None = None, hint: str = "", **facts: Any
    ) -> None:
        """`kept` is the position up to which all of them are there nevertheless, 0 if that is not known."""
        self.kept = kept
        self.retry_after_s = retry_after_s
        super().__init__(message, hint=hint, kept=kept, retry_after_s=retry_after_s, **facts)


class EventRefused(BusError):
    """The receiver does not take this event, however often it is handed over."""

    code = "event_refused"
    retryable = False

    def __init__(self, message: str = "", *, position: int = 0, hint: str = "") -> None:
        """`position` is that of the event that is refused; those handed over before it are there."""
        self.position = position
        super().__init__(message, hint=hint, position=position)


class Shed(OstlerError):
    """This process has too much to do at the moment; the call has not begun."""

    code = "shed"
    retryable = True

    def __init__(self, message: str = "", *, depth: int = 0, capacity: int = 0, hint: str = "") -> None:
        """`depth` calls are under way, of `capacity` that may be for one of this priority."""
        self.depth = depth
        self.capacity = capacity
        super().__init__(message, hint=hint, depth=depth, capacity=capacity)


class BreakersUnshared(OstlerError):
    """The server on which workers share circuit breakers does not answer."""

    code = "breakers_unshared"
    retryable = True


class CircuitOpen(OstlerError):
    """It failed too often of late, and is left alone for a while."""

    code = "circuit_open"
    retryable = True

    def __init__(
        self, message: str = "", *, until: str = "", retry_after_s: float | None = None, hint: str = ""
    ) -> None:
        """`until` is the RFC 3339 moment before which asking again is in vain, as far as is known now."""
        self.until = until
        self.retry_after_s = retry_after_s
        super().__init__(message, hint=hint, until=until, retry_after_s=retry_after_s)


class ProviderError(OstlerError):
    """The model provider failed."""

    code = "provider"

    def __init__(
        self, message: str = "", *, status: int | None = None, retry_after_s: float | None = None, hint: str = ""
    ) -> None:
        """`status` is the HTTP status and `message` the provider's own words, where it answered at all.

        `partial_text` is how the text of the reply began, if it failed within one: for the record, never as a reply.
        """
        self.status = status
        self.retry_after_s = retry_after_s
        self.partial_text = ""
        super().__init__(message, hint=hint, status=status, retry_after_s=retry_after_s)


class ProviderUnreachable(ProviderError):
    """The model provider cannot be reached."""

    code = "provider_unreachable"
    retryable = True


class ProviderTimeout(ProviderError):
    """The model provider did not answer in time."""

    code = "provider_timeout"
    retryable = True


class RateLimited(ProviderError):
    """The model provider asks us to slow down."""

    code = "rate_limited"
    retryable = True


class ProviderOverloaded(ProviderError):
    """The model provider failed on its side."""

    code = "provider_overloaded"
    retryable = True


class IncompleteReply(ProviderError):
    """The reply ended before it was complete; nothing of it was used."""

    code = "incomplete_reply"
    retryable = True


class ProviderRejected(ProviderError):
    """The model provider refuses the request."""

    code = "provider_rejected"


class ContextTooLong(ProviderRejected):
    """The request is longer than the model's window."""

    code = "context_too_long"


class ProviderGarbled(ProviderError):
    """The model provider answered in a format that it does not document."""

    code = "provider_garbled"
    retryable = True


class EmbedderError(OstlerError):
    """Texts cannot be turned into vectors now."""

    code = "embedder"
    retryable = True


class TextRefused(EmbedderError):
    """The embedder does not take this text."""

    code = "text_refused"
    retryable = False


class GraphUnavailable(OstlerError):
    """The process that works on graphs failed, or took too long."""

    code = "graph_unavailable"
    retryable = True


class ToolError(OstlerError):
    """The tool failed."""

    code = "tool"


class ToolNotFound(ToolError):
    """This process has no implementation of the tool."""

    code = "tool_not_found"


class ToolTimeout(ToolError):
    """The tool did not finish in time and was stopped."""

    code = "tool_timeout"
    retryable = True


class SandboxUnavailable(ToolError):
    """Isolation was asked for and cannot be had on this machine."""

    code = "sandbox_unavailable"


class ReplayDiverged(OstlerError):
    """Today's code decides otherwise than the log says."""

    code = "replay_diverged"
