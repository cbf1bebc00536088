"""An agent on call that knows how an alarm was settled the last time.

    python examples/oncall/oncall.py "The checkout answers slowly"      # looks at everything first
    python examples/oncall/oncall.py "The checkout is slow again"       # goes straight to what helped

With --model (`anthropic:claude-…`, `ollama:qwen3` …) a live model is on call; without it, a few lines of code that do
what a careful model does, so that no key and no network are needed.
"""

import argparse
import asyncio
from pathlib import Path

from ostler import Agent, MemorySettings, Runtime, tool
from ostler.domain.model import ModelRequest, Reply, ToolMessage, UserMessage
from ostler.testing import Scripted, calls

SERVICES = {
    "checkout": "p95 2,900 ms, errors 0.1 %, connections to the database 100 of 100",
    "database": "p95 3 ms, connections 100 of 100, 97 of them idle in a transaction of worker-7",
    "worker-7": "up 41 days, queue 12, holds 97 transactions that it never ended",
    "cache": "hits 99 %, p95 1 ms",
}
LEARNT = (
    "When the checkout is slow and the database has no connection left, a worker holds transactions that it never "
    "ended: restart worker-7. It took four looks to find that."
)


@tool(effect="read")
def metrics(service: str) -> str:
    """Look at the metrics of one service: checkout, database, cache or a worker."""
    return SERVICES.get(service, f"there is no service {service!r}; there are: {', '.join(SERVICES)}")


@tool(effect="idempotent")
def restart(service: str) -> str:
    """Restart one service."""
    return f"{service} was restarted; the checkout answers in 140 ms again"


def careful(request: ModelRequest) -> Reply | str:
    """Looks at one service after the other and remembers what it was; unless it recalls what it was the last time."""
    told = [message.text for message in request.messages if isinstance(message, UserMessage)]
    results = [message for message in request.messages if isinstance(message, ToolMessage)]
    if any(LEARNT in text for text in told):
        if not results:
            return calls(("restart", {"service": "worker-7"}))
        return "Settled: I recalled that worker-7 holds connections, and restarted it at once."
    looks = ["checkout", "cache", "database", "worker-7"]
    if len(results) < len(looks):
        return calls(("metrics", {"service": looks[len(results)]}))
    if len(results) == len(looks):
        return calls(("restart", {"service": "worker-7"}))
    if len(results) == len(looks) + 1:
        arguments = {"text": LEARNT, "key": "checkout.slow", "tags": ["checkout", "database"], "importance": 0.9}
        return calls(("memory.remember", arguments))
    return "Settled: worker-7 held all connections of the database, and was restarted."


def on_call(model: str | None) -> Agent:
    """The agent. What it learns of the house's services is of use to whoever is on call: it is kept for all users."""
    memory = MemorySettings(
        tools=("memory.remember", "memory.recall", "memory.forget"), level="agent", writes=("agent", "session")
    )
    return Agent(
        "oncall",
        "You are on call. Find out what an alarm comes from and settle it. Remember what it was and what helped.",
        tools=[metrics, restart],
        model=model or Scripted(*[careful] * 20, name="careful"),
    ).with_settings(memory)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alarm")
    parser.add_argument("--model")
    parser.add_argument("--store", type=Path, default=Path("oncall.db"))
    given = parser.parse_args()
    agent = on_call(given.model)
    async with Runtime.open(given.store, agents=[agent]) as runtime:
        session = await runtime.start(agent, given.alarm)
        print(await session.result())
        print(f"({(await session.state()).steps} steps)")


if __name__ == "__main__":
    asyncio.run(main())
