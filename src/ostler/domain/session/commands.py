"""What can be asked of a session. Time, chance and everything else from the world come with the command.

Commands of people (`Approve`, `Pause` …) record a decision and begin nothing. Commands of the worker that holds the
session (`Proceed`, `ReplyReceived` …) also take the next step, so that only a worker ever writes an intent: whoever
finds an intent that it did not write itself knows that it may have been performed.
"""

from typing import Any

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy
from ostler.domain.fitness.target import Measured
from ostler.domain.grant import Grant
from ostler.domain.hook import Ruling
from ostler.domain.identity import Principal
from ostler.domain.model import Image, ModelRef, Reply, Usage
from ostler.domain.session.events import CallExamined, Lasts
from ostler.domain.session.state import State
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import StrategySpec
from ostler.domain.tool import ToolOutcome

GATE = 4
"""The version of the gate that new sessions are judged by; see `AgentStarted`."""


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
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    inputs: dict[str, Any] = {}
    grant: Grant | None = None
    is_budgeted: bool = False
    holds: tuple[str, ...] = ()
    gate: int = GATE
    images: tuple[Image, ...] = ()
    strategy: StrategySpec | None = None
    candidates: tuple[Card, ...] = ()


class Proceed(msgspec.Struct, frozen=True, gc=False):
    """Take the next step, or notice that time has passed."""

    at_us: int


class TakeOver(msgspec.Struct, frozen=True, gc=False):
    """A worker holds the session now and wrote none of its open intents: each may have been performed."""

    at_us: int


class Examined(msgspec.Struct, frozen=True, gc=False):
    """What was found out about a call that is to be judged, as things stood `before` (None: as they stand)."""

    at_us: int
    found: CallExamined
    before: State | None = None


class Compared(msgspec.Struct, frozen=True, gc=False):
    """What was measured after a call around which targets are measured."""

    at_us: int
    call: str
    fitness: tuple[Measured, ...]


class ReplyReceived(msgspec.Struct, frozen=True, gc=False):
    """The model has replied, wholly. `redacted` and `hooks` are what was done to the reply before this.

    `shared_with` as in `ModelCompleted`.
    """

    at_us: int
    call: str
    reply: Reply
    redacted: dict[str, int] = {}
    hooks: tuple[Ruling, ...] = ()
    shared_with: str = ""


class ReplyFailed(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed. `retry_at_us` says when another would make sense, if one would.

    `partial` is how the reply began; `usage` is what the provider says was used, None that it does not say.
    """

    at_us: int
    call: str
    code: str
    message: str
    status: int | None = None
    retry_at_us: int | None = None
    partial: str = ""
    usage: Usage | None = None


class CapacityMissed(msgspec.Struct, frozen=True, gc=False):
    """A call that has not begun has to wait, because there is no capacity under this limit."""

    at_us: int
    call: str
    limit: str


class CapacityFound(msgspec.Struct, frozen=True, gc=False):
    """A call that had to wait for capacity may begin."""

    at_us: int
    call: str


class WaitOver(msgspec.Struct, frozen=True, gc=False):
    """The moment has come before which a call was not to be tried again; it begins now."""

    at_us: int
    call: str


class ToolReturned(msgspec.Struct, frozen=True, gc=False):
    """A tool call has its outcome. `redacted` and `hooks` are what was done to it before this.

    With `retry_at_us` it failed for the moment, and another attempt would make sense then; `code` says why, where it
    is not that the outcome is `transient`. `shared_with` as in `ModelCompleted`.
    """

    at_us: int
    call: str
    outcome: ToolOutcome
    redacted: dict[str, int] = {}
    hooks: tuple[Ruling, ...] = ()
    retry_at_us: int | None = None
    code: str = "transient"
    shared_with: str = ""


class Approve(msgspec.Struct, frozen=True, gc=False):
    """`digest` None approves whatever is asked now; given, the question must be the one about exactly this call.

    `arguments` are in place of those that the model asked for. `lasts` as in `ApprovalGranted`.
    """

    at_us: int
    call: str
    by: Principal
    reason: str = ""
    digest: str | None = None
    arguments: dict[str, Any] | None = None
    lasts: Lasts = "once"
    until_us: int | None = None


class Deny(msgspec.Struct, frozen=True, gc=False):
    """Refuse the call that waits."""

    at_us: int
    call: str
    by: Principal
    reason: str = ""


class AskBack(msgspec.Struct, frozen=True, gc=False):
    """Decide nothing yet about the call that waits, and ask the agent something."""

    at_us: int
    call: str
    by: Principal
    question: str


class MovePolicy(msgspec.Struct, frozen=True, gc=False):
    """Put the session under these policies, in place of those that it has."""

    at_us: int
    by: Principal
    policy: Policy
    layers: tuple[Policy, ...] = ()
    shadow: tuple[Policy, ...] = ()
    reason: str = ""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Say something to the running agent."""

    at_us: int
    text: str
    by: Principal
    images: tuple[Image, ...] = ()


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
    | Examined
    | Compared
    | ToolReturned
    | Proceed
    | TakeOver
    | ReplyFailed
    | CapacityMissed
    | CapacityFound
    | WaitOver
    | Start
    | Approve
    | Deny
    | AskBack
    | MovePolicy
    | Send
    | Pause
    | Resume
    | Cancel
    | Kill
    | Fail
)
