"""A worker process whose people all decide at once: `python -m tests.runtime.rivals STORE SEED`.

It is told sessions, moments and what to do, a line each (`SESSION MICROSECONDS approve deny …`) up to `go`, and does
all of it at about that moment, each by a task of its own. It says `paid SESSION` for each payment, `won` or `lost`,
what and where for each decision, then `decided`; and ends when it is told `stop`.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable

from ostler import Agent, Policy, Principal, Runtime, Session, ToolRequest, tool
from ostler.kernel.errors import Conflict
from ostler.testing import Scripted, calls
from tests.runtime.mortal import say

WITHIN_S = 4
"""Long enough for all sessions to be waiting before the first of them expires."""
CALL = "1.1"
JITTER_US = 3_000


@tool(effect="once")
async def pay(request: ToolRequest) -> str:
    """Pay."""
    say(f"paid {request.key.partition('/')[0]}")
    return "paid"


AGENT = Agent(
    "payer",
    tools=[pay],
    model=Scripted(calls(("pay", {})), "done"),
    rules=Policy("house", text=f"REQUIRE approval WITHIN {WITHIN_S}s FOR tool.pay"),
)


async def decide(session: Session, what: str, who: str, at_us: int) -> None:
    """Do it at that moment, and say whether it took effect."""
    by = Principal(who, scopes=("approve",))
    wishes: dict[str, Callable[[], Awaitable[object]]] = {
        "approve": lambda: session.approve(CALL, by=by),
        "deny": lambda: session.deny(CALL, by=by),
        "cancel": lambda: session.cancel(by=by),
    }
    while session.now_us() < at_us:  # noqa: ASYNC110  it is time itself that is waited for
        await asyncio.sleep((at_us - session.now_us()) / 1e6)
    try:
        await wishes[what]()
    except Conflict:
        say(f"lost {what} {session.id}")
    else:
        say(f"won {what} {session.id}")


async def main(store: str, seed: int) -> None:
    """Work on the store, and decide about what is named on standard input."""
    chance = random.Random(seed)
    async with Runtime.open(store, agents=[AGENT]) as runtime:
        say("ready")
        async with asyncio.TaskGroup() as people:
            while (line := (await asyncio.to_thread(sys.stdin.readline)).split()) and line[0] != "go":
                name, moment, *wishes = line
                session = await runtime.session(name)
                for number, what in enumerate(wishes):
                    at_us = int(moment) + chance.randint(-JITTER_US, JITTER_US)
                    people.create_task(decide(session, what, f"p{seed}-{number}", at_us))
        say("decided")
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
