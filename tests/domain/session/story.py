"""Given / when / then for sessions: run commands, look at the events."""

from typing import Any

from ostler.domain.agent import AgentSpec, Limits
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.model import ModelRef, Price, Reply, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec, failed, succeeded
from ostler.testing import calls

SECOND = 1_000_000
PRICE = Price(input_microusd=3_000_000, output_microusd=15_000_000)


def spec(name: str, effect: Any = "read", **schema: Any) -> ToolSpec:
    properties = schema or {"n": {"type": "integer"}}
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return ToolSpec(name=name, description=name, parameters=parameters, effect=effect)


TOOLS = (spec("look"), spec("save", "idempotent"), spec("edit", "reconcilable"), spec("pay", "once"))


class Story:
    """A session under test. `at` is the time of the next command, in seconds."""

    def __init__(
        self,
        *rules: Rule,
        limits: Limits | None = None,
        tools: str = "native",
        by: Principal = LOCAL_USER,
        specs: tuple[ToolSpec, ...] = TOOLS,
        price: Price | None = None,
        **agent: Any,
    ) -> None:
        self.state: State | None = None
        self.log: list[tuple[int, SessionEvent]] = []
        self.at = 1.0
        self.by = by
        self.spec = AgentSpec(
            name="clerk", tools=specs, policy=Policy(name="house", rules=rules), limits=limits or Limits(), **agent
        )
        self.model = ModelRef("scripted", "scripted", "m", tools="text" if tools == "text" else "native", price=price)

    @property
    def us(self) -> int:
        return int(self.at * SECOND)

    def do(self, asked: Any, **options: Any) -> list[SessionEvent]:
        """The events of one command, checked to fold to the decided state, also after encoding."""
        decision = decide(asked, self.state, **options)
        folded = self.state
        for event in decision.events:
            folded = evolve(folded, SESSION_CODEC.decode(SESSION_CODEC.encode(event)), asked.at_us)
        assert folded == decision.state or not decision.events
        self.state = decision.state
        self.log += [(asked.at_us, event) for event in decision.events]
        return decision.events

    def start(self, goal: str = "Do it.") -> "Story":
        self.do(command.Start(self.us, "ses_1", self.spec, self.model, goal, self.by))
        self.do(command.Proceed(self.us))
        return self

    def proceed(self) -> list[SessionEvent]:
        return self.do(command.Proceed(self.us))

    def reply(
        self, *asked: tuple[str, Any], text: str = "", usage: Usage | None = None, **more: Any
    ) -> list[SessionEvent]:
        assert self.state is not None
        reply = calls(*asked, text=text, usage=usage) if asked else Reply(text, usage=usage or Usage(), **more)
        return self.do(command.ReplyReceived(self.us, self.state.open[0].id, reply))

    def returned(self, call: str, value: Any = "ok") -> list[SessionEvent]:
        return self.do(command.ToolReturned(self.us, call, succeeded(value)))

    def broke(self, call: str, reason: str = "broken") -> list[SessionEvent]:
        return self.do(command.ToolReturned(self.us, call, failed("permanent", reason)))

    def approve(self, call: str, **more: Any) -> list[SessionEvent]:
        return self.do(command.Approve(self.us, call, self.by, **more))

    def deny(self, call: str, reason: str = "") -> list[SessionEvent]:
        return self.do(command.Deny(self.us, call, self.by, reason))

    @property
    def now(self) -> State:
        assert self.state is not None
        return self.state


def kinds(events: list[SessionEvent]) -> list[str]:
    """The type tags of events."""
    return [str(type(event).__struct_config__.tag) for event in events]
