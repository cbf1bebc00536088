"""Ostler itself, as any other peer: a worker in one process, on the store of the task."""

from collections.abc import Callable
from typing import Any

from benchmarks.peers.load import WARM, Bench, run
from ostler import Agent, Limits, Runtime, Session, Tool, ToolRequest, tool
from ostler.domain.model import AskedCall, ModelRef, ModelRequest, Reply, Usage
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.events import AgentCompleted, ToolCompleted
from ostler.domain.tool import Effect


class Instant:
    """A model that answers at once."""

    def __init__(self, bench: Bench) -> None:
        self.ref = ModelRef("scripted", "scripted", "instant")
        self._bench = bench

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        turn = self._bench.turn(request.messages[0].text, int(request.key.rpartition("/")[2]))
        if turn.sku is None:
            return Reply(turn.text, (), "end", Usage(100, 20), "instant")
        call = AskedCall("1", "find", f'{{"sku":"{turn.sku}"}}')
        return Reply(turn.text, (call,), "tool_calls", Usage(100, 20), "instant")

    async def close(self) -> None:
        pass


def make_tool(bench: Bench, effect: Effect) -> Tool[..., Any]:
    async def happened(request: ToolRequest) -> str | None:
        return bench.done(request.arguments["sku"])

    @tool(effect=effect, reconcile=happened if effect == "reconcilable" else None)
    async def find(sku: str) -> str:
        """Look a part up."""
        return bench.find(sku)

    return find


async def history(session: Session) -> tuple[list[str], str]:
    """What came of the calls, and the answer, as the log has them."""
    found, answer = [], ""
    async for happening in session.events(follow=False):
        match happening.event:
            case ToolCompleted(ok=ok, output=output, kind=kind):
                found.append(output if ok else str(kind))
            case AgentCompleted(answer=text):
                answer = text
            case _:
                pass
    return found, answer


async def peer(bench: Bench) -> None:
    task = bench.task
    effect: Any = task.tool or "read"
    limits = Limits(steps=task.steps + 1)
    agent = Agent("bench", tools=[make_tool(bench, effect)], model=Instant(bench), limits=limits)
    worker = WorkerSettings(queues=(), lease_s=task.lease_s) if task.effects else True
    async with Runtime.open(task.store, agents=[agent], worker=worker) as runtime:

        async def session(goal: str) -> None:
            left = await runtime.sessions() if task.recover else []
            one = await runtime.session(left[0].id) if left else await runtime.start(agent, goal)
            await one.result()
            sessions.append((goal, one))

        sessions: list[tuple[str, Session]] = []
        if not task.effects:
            await session(WARM)
        with bench.measured():
            await bench.each(session)
        for goal, one in sessions:
            bench.judge(goal, *await history(one))


if __name__ == "__main__":
    run(peer, "ostler")
