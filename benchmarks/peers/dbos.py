"""DBOS: a workflow whose model calls and tool calls are steps, each recorded before the next begins.

Blocking functions are measured unless `variant` is `async`, because they are the cheaper ones.
"""

import asyncio
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.peers.load import WARM, Bench, digest, run

NAME = "bench"
VERSION = "1"
"""Of the application: whoever runs the same may go on with what another process has left behind."""


def _shown(bench: Bench, answer: str, found: list[str]) -> dict[str, Any]:
    """What the workflow returns, and so what is kept of its end."""
    return {"answer": answer, "seen": found if bench.task.effects else digest(found)}


def define(bench: Bench) -> Any:
    @DBOS.step()
    def model(goal: str, number: int) -> dict[str, str | None]:
        turn = bench.turn(goal, number)
        return {"text": turn.text, "sku": turn.sku}

    @DBOS.step()
    def find(sku: str) -> str:
        return bench.find(sku)

    @DBOS.workflow()
    def agent(goal: str) -> dict[str, Any]:
        found: list[str] = []
        while (reply := model(goal, len(found) + 1))["sku"]:
            found.append(find(reply["sku"]))
        return _shown(bench, reply["text"], found)

    return agent


def define_async(bench: Bench) -> Any:
    @DBOS.step()
    async def model(goal: str, number: int) -> dict[str, str | None]:
        turn = bench.turn(goal, number)
        return {"text": turn.text, "sku": turn.sku}

    @DBOS.step()
    async def find(sku: str) -> str:
        return bench.find(sku)

    @DBOS.workflow()
    async def agent(goal: str) -> dict[str, Any]:
        found: list[str] = []
        while (reply := await model(goal, len(found) + 1))["sku"]:
            found.append(await find(reply["sku"]))
        return _shown(bench, reply["text"], found)

    return agent


async def peer(bench: Bench) -> None:
    task = bench.task
    config: DBOSConfig = {
        "name": NAME,
        "system_database_url": task.store,
        "application_version": VERSION,
        "executor_id": "local",
        "log_level": "CRITICAL",
    }
    DBOS(config=config)
    is_async = task.variant == "async"
    agent = (define_async if is_async else define)(bench)
    DBOS.launch()

    async def session(goal: str) -> None:
        if task.recover and await DBOS.get_workflow_status_async(goal) is not None:
            result = await (await DBOS.retrieve_workflow_async(goal)).get_result()
        elif is_async:
            with SetWorkflowID(goal):
                result = await (await DBOS.start_workflow_async(agent, goal)).get_result()
        else:
            with SetWorkflowID(goal):
                result = await asyncio.to_thread(DBOS.start_workflow(agent, goal).get_result)
        if task.effects:
            bench.judge(goal, result["seen"], result["answer"])
        else:
            bench.judge_digest(goal, result["seen"], result["answer"])

    if not task.effects:
        await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer, "dbos")
