"""Exit codes: how the command line says in one number what came of it."""

from enum import IntEnum

from ostler.kernel.errors import Conflict, NotAllowed, NotFound, OstlerError, ReplayDiverged, StoreCorrupt, UsageError


class Exit(IntEnum):
    """Every exit code there is."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    WAITING = 3
    DENIED = 4
    BUDGET = 5
    CANCELLED = 6
    CONFLICT = 7
    DIVERGED = 8
    TIMED_OUT = 124
    INTERRUPTED = 130
    UNREAD = 141


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage, definition or setting",
    Exit.WAITING: "waiting for a person",
    Exit.DENIED: "denied",
    Exit.BUDGET: "a limit is used up (steps, tokens, cost, time …)",
    Exit.CANCELLED: "cancelled or killed",
    Exit.CONFLICT: "not found, or in conflict with how things are",
    Exit.DIVERGED: "a replay diverged, or a log is damaged",
    Exit.TIMED_OUT: "the wait timed out; the session keeps its state",
    Exit.INTERRUPTED: "interrupted; the session keeps its state",
    Exit.UNREAD: "nobody reads the output any more (a closed pipe)",
}

_OF_ERRORS: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (NotAllowed, Exit.DENIED),
    (NotFound, Exit.CONFLICT),
    (Conflict, Exit.CONFLICT),
    (ReplayDiverged, Exit.DIVERGED),
    (StoreCorrupt, Exit.DIVERGED),
    (TimeoutError, Exit.TIMED_OUT),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (BrokenPipeError, Exit.UNREAD),
    (OstlerError, Exit.FAILED),
)

_OF_REASONS = {
    "denied": Exit.DENIED,
    "budget": Exit.BUDGET,
    "step_limit": Exit.BUDGET,
    "token_limit": Exit.BUDGET,
    "cost_limit": Exit.BUDGET,
    "tool_call_limit": Exit.BUDGET,
    "timeout": Exit.BUDGET,
}

_OF_STATUSES = {
    "completed": Exit.DONE,
    "cancelled": Exit.CANCELLED,
    "failed": Exit.FAILED,
    "waiting": Exit.WAITING,
    "paused": Exit.WAITING,
}


def of_error(error: BaseException) -> Exit:
    """The exit code of a command that raised this."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), Exit.FAILED)


def of_session(status: str, reason: str | None) -> Exit:
    """The exit code of a command that followed a session until it stood like this."""
    if status == "failed" and reason in _OF_REASONS:
        return _OF_REASONS[reason]
    return _OF_STATUSES.get(status, Exit.FAILED)
