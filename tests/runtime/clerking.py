"""A worker process that pays when it may: `python -m tests.runtime.clerking STORE`, until a line comes in."""

import asyncio
import sys

from ostler import Agent, Runtime, ToolRequest, tool
from ostler.testing import Scripted, calls
from tests.runtime.mortal import say


@tool(effect="once")
async def pay(request: ToolRequest, amount: int = 0) -> str:
    """Pay."""
    say(f"paid {request.key}")
    return "paid"


CLERK = Agent("asking", tools=[pay], model=Scripted(calls(("pay", {})), "done"))


async def main(path: str) -> None:
    """Run the sessions of the agent `asking` that are in the store."""
    async with Runtime.open(f"sqlite:///{path}", agents=[CLERK]):
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
