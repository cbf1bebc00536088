"""What the chain around every call costs on a healthy one: pressure, sharing, breaker, call.

`python -m benchmarks.resilience [--json]`. The same provider, which answers at once, is called directly and through the
chain, by turns in one process; each round is timed by CPU time, and the medians are compared. `kept` is a call that
gets the outcome of an equal one.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec

from ostler.adapters.breakers.memory import MemoryBreakers
from ostler.adapters.store.memory import MemoryStore
from ostler.app.world import SystemClock
from ostler.domain.agent import AgentSpec
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, ModelRequest, ModelSettings, Reply, UserMessage
from ostler.domain.resilience.breaker import Breaker
from ostler.domain.resilience.pressure import Pressure
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.runtime.governor import Governor
from ostler.runtime.resilience.chain import Chain
from ostler.runtime.resilience.circuits import Circuits

CALLS = 500
ROUNDS = 41
REF = ModelRef("scripted", "scripted", "m")
REPLY = Reply("done")


class Measured(msgspec.Struct):
    """CPU time of one call in microseconds; `added_us` is what the chain costs, and `stages` each of its stages."""

    direct_us: float
    chain_us: float
    added_us: float
    kept_us: float
    stages: dict[str, float]


async def complete(request: ModelRequest) -> Reply:
    """A provider that answers at once."""
    return REPLY


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time_ns()
    for _ in range(CALLS):
        await call()
    return (time.process_time_ns() - began) / CALLS / 1e3


async def measure() -> Measured:
    state = decide(command.Start(1, "ses_1", AgentSpec("clerk"), REF, "Go.", LOCAL_USER), None).state
    circuits = Circuits(MemoryBreakers(), lambda kind, name: Breaker(), SystemClock(), Governor(MemoryStore()))
    chain = Chain(Pressure(), circuits)
    request = ModelRequest(REF, "", [UserMessage("Go.")], (), ModelSettings(), "ses_1/1")
    equal = msgspec.structs.replace(request, settings=ModelSettings(share_s=3600))
    direct, through, kept = [], [], []
    for _ in range(ROUNDS):
        direct.append(await timed(lambda: complete(request)))
        through.append(await timed(lambda: chain.ask(state, request, lambda: complete(request))))
        kept.append(await timed(lambda: chain.ask(state, equal, lambda: complete(equal))))
    fresh = Chain(Pressure(), circuits)
    await timed(lambda: fresh.ask(state, request, lambda: complete(request)))
    stages = {one.stage: round(one.own_us / one.calls, 2) for one in fresh.timings()["models"]}
    once, chained = statistics.median(direct), statistics.median(through)
    return Measured(once, chained, chained - once, statistics.median(kept), stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    measured = asyncio.run(measure())
    if parser.parse_args().json:
        print(msgspec.json.encode(measured).decode())
        return
    print(f"called directly      {measured.direct_us:8.2f} µs")
    print(f"through the chain    {measured.chain_us:8.2f} µs")
    print(f"the chain costs      {measured.added_us:8.2f} µs")
    print(f"an outcome kept      {measured.kept_us:8.2f} µs")
    for stage, cost in measured.stages.items():
        print(f"  {stage:<18} {cost:8.2f} µs (wall, with its own clock)")


if __name__ == "__main__":
    main()
