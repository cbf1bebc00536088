"""What it costs to see to what the model sees, at step 100 and at step 2,000, in CPU time.

`python -m benchmarks.context [--json]`. Nothing of a step may grow with the session: neither folding and counting its
messages, nor deciding whether there is room, nor making the request. What must grow is the body that goes over the
wire, which is measured beside it: with the earlier turns kept from the request before (`encoding`), and without
(`anew`).
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from ostler.adapters.providers.anthropic import _body as anthropic_body
from ostler.adapters.providers.anthropic import _messages as anthropic_messages
from ostler.adapters.providers.dialect import EarlierTurns
from ostler.domain import context
from ostler.domain.agent import AgentSpec, ContextSettings, Limits
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import AskedCall, ModelRef, ModelRequest, Reply
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import ContextCompacted
from ostler.domain.session.state import State
from ostler.domain.tokens import counts_of
from ostler.domain.tool import ToolSpec, succeeded

STEPS = 2_000
EDGE = 100
RESULT = "The quick brown fox looked at 3 files, and (then) at the lazy dog's JSON. " * 7
MODEL = ModelRef("scripted", "scripted", "m", window_tokens=100_000_000)
PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}}
R = TypeVar("R")


class Stage(msgspec.Struct):
    """Microseconds of CPU a step: in the first and in the last hundred steps, and the last over the first."""

    first_us: float
    last_us: float
    ratio: float


class Measured(msgspec.Struct):
    """`decide` is the whole of a step (two commands, with folding and counting), `request` its request."""

    decide: Stage
    request: Stage
    encoding: Stage
    anew: Stage
    body_bytes: int
    count_us: dict[int, float]
    compaction_ms: float
    compactions: int


class Session:
    """One session in which the model looks at something in every step."""

    def __init__(self, settings: ContextSettings) -> None:
        spec = ToolSpec("look", "Look at something.", PARAMETERS, effect="read")
        agent = AgentSpec("looker", tools=(spec,), limits=Limits(steps=None), context=settings)
        started = decide(command.Start(0, "ses_1", agent, MODEL, "Look at it all.", LOCAL_USER), None)
        self.state: State = decide(command.Proceed(0), started.state).state
        self.compactions = 0

    def step(self, number: int) -> None:
        """The model asks for something, and gets it."""
        asked = Reply("I look.", (AskedCall("a", "look", f'{{"n":{number}}}'),), "tool_calls")
        self._do(command.ReplyReceived(0, self.state.open[0].id, asked))
        self._do(command.ToolReturned(0, self.state.open[0].id, succeeded(RESULT)))

    def _do(self, asked: command.SessionCommand) -> None:
        decision = decide(asked, self.state)
        self.state = decision.state
        self.compactions += sum(isinstance(event, ContextCompacted) for event in decision.events)

    def request(self) -> ModelRequest:
        return context.request(self.state, self.state.open[0])


def measure(steps: int = STEPS) -> Measured:
    """One session without compactions, and one whose window holds a fiftieth of it."""
    session = Session(ContextSettings())
    decided, requested, requests = [], [], []
    for number in range(1, steps + 1):
        decided.append(_timed(partial(session.step, number))[0])
        took, request = _timed(session.request)
        requested.append(took)
        requests.append(request)
    sent = [*requests[:EDGE], *requests[-EDGE:]]  # apart from the steps, whose caches it would empty
    earlier = EarlierTurns()
    encoded = [_timed(partial(_encoded, request, earlier))[0] for request in sent]
    anew = [_timed(partial(_encoded, request, EarlierTurns()))[0] for request in sent]
    small = Session(ContextSettings(window_tokens=6_000))
    times = []
    for number in range(1, steps + 1):
        before = small.compactions
        took, _ = _timed(partial(small.step, number))
        if small.compactions > before:
            times.append(took)
    return Measured(
        decide=_stage(decided),
        request=_stage(requested),
        encoding=_stage(encoded),
        anew=_stage(anew),
        body_bytes=len(_encoded(requests[-1], earlier)),
        count_us={size: _count_us(size) for size in (300, 3_000, 32_000)},
        compaction_ms=statistics.median(times) / 1_000,
        compactions=small.compactions,
    )


def _encoded(request: ModelRequest, earlier: EarlierTurns) -> bytes:
    messages, names = earlier.encoded(request, anthropic_messages)
    return msgspec.json.encode(anthropic_body(request, messages, names))


def _timed(work: Callable[[], R]) -> tuple[float, R]:
    began = time.thread_time_ns()
    done = work()
    return (time.thread_time_ns() - began) / 1_000, done


def _stage(times: list[float]) -> Stage:
    first, last = _typical(times[:EDGE]), _typical(times[-EDGE:])
    return Stage(first, last, last / first)


def _typical(times: list[float]) -> float:
    """The lower quartile: what others do on the machine only ever adds to a time."""
    return statistics.quantiles(times, n=4)[0]


def _count_us(size: int) -> float:
    text = (RESULT * (size // len(RESULT) + 1))[:size]
    return min(_timed(lambda: counts_of(text))[0] for _ in range(50))


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many steps the session has")
    asked = parser.parse_args()
    gc.disable()
    found = measure(asked.steps)
    if asked.json:
        print(msgspec.json.encode(found).decode())
        return
    print(f"{'a step, of ' + format(asked.steps, ','):30}{'first 100':>12}{'last 100':>12}{'ratio':>8}")
    for name, stage in (("decided, folded, counted", found.decide), ("the request", found.request)):
        print(f"{name:30}{stage.first_us:9.1f} µs{stage.last_us:9.1f} µs{stage.ratio:8.2f}")
    for name, stage in (("its body, encoded", found.encoding), ("the same, all of it anew", found.anew)):
        print(f"{name:30}{stage.first_us:9.1f} µs{stage.last_us:9.1f} µs{stage.ratio:8.2f}")
    print(f"the last body has {found.body_bytes:,} bytes")
    counted = ", ".join(f"{size:,} characters {took:.1f} µs" for size, took in found.count_us.items())
    print(f"counting {counted}")
    print(f"a compaction at 6,000 tokens {found.compaction_ms:.1f} ms, {found.compactions} of them")


if __name__ == "__main__":
    main()
