"""What can be asked of a session. Time, chance and everything else from the world come with the command.

Commands of people (`Approve`, `Pause` …) record a decision and begin nothing. Commands of the worker that holds the
session (`Proceed`, `ReplyReceived` …) also take the next step, so that only a worker ever writes an intent: whoever
finds an intent that it did not write itself knows that it may have been performed.
"""

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.identity import Principal
from ostler.domain.model import ModelRef, Reply
from ostler.domain.tool import ToolOutcome


class Start(msgspec.Struct, frozen=True, gc=False):
    """Begin a session."""

    at_us: int
    session: str
    agent: AgentSpec
    model: ModelRef
    goal: str
    by: Principal
    workspace: str | None = None
    sandbox: str = "bwrap"
    priority: int = 0


class Proceed(msgspec.Struct, frozen=True, gc=False):
    """Take the next step, or notice that time has passed."""

    at_us: int


class TakeOver(msgspec.Struct, frozen=True, gc=False):
    """A worker holds the session now and wrote none of its open intents: each may have been performed."""

    at_us: int


class ReplyReceived(msgspec.Struct, frozen=True, gc=False):
    """The model has replied, wholly."""

    at_us: int
    call: str
    reply: Reply


class ReplyFailed(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed. `retry_at_us` says when another would make sense, if one would."""

    at_us: int
    call: str
    code: str
    message: str
    status: int | None = None
    retry_at_us: int | None = None


class CapacityMissed(msgspec.Struct, frozen=True, gc=False):
    """A call that has not begun has to wait, because there is no capacity under this limit."""

    at_us: int
    call: str
    limit: str


class CapacityFound(msgspec.Struct, frozen=True, gc=False):
    """A call that had to wait for capacity may begin."""

    at_us: int
    call: str


class ToolReturned(msgspec.Struct, frozen=True, gc=False):
    """A tool call has its outcome."""

    at_us: int
    call: str
    outcome: ToolOutcome


class Approve(msgspec.Struct, frozen=True, gc=False):
    """`digest` None approves whatever is asked now; given, the question must be the one with these arguments."""

    at_us: int
    call: str
    by: Principal
    reason: str = ""
    digest: str | None = None


class Deny(msgspec.Struct, frozen=True, gc=False):
    """Refuse the call that waits."""

    at_us: int
    call: str
    by: Principal
    reason: str = ""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Say something to the running agent."""

    at_us: int
    text: str
    by: Principal


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Begin no new call until `Resume`."""

    at_us: int
    by: Principal
    reason: str = ""


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Go on after a pause."""

    at_us: int
    by: Principal


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Begin nothing more, stop what is under way, then end."""

    at_us: int
    by: Principal
    reason: str = ""


class Kill(msgspec.Struct, frozen=True, gc=False):
    """End now, whatever is under way; the outcomes of open calls are recorded as unknown."""

    at_us: int
    by: Principal


class Fail(msgspec.Struct, frozen=True, gc=False):
    """The runtime cannot go on with this session for a reason of its own."""

    at_us: int
    reason: str
    message: str


SessionCommand = (
    ReplyReceived
    | ToolReturned
    | Proceed
    | TakeOver
    | ReplyFailed
    | CapacityMissed
    | CapacityFound
    | Start
    | Approve
    | Deny
    | Send
    | Pause
    | Resume
    | Cancel
    | Kill
    | Fail
)
