"""Absurd: a task whose model calls and tool calls are steps, each a checkpoint in PostgreSQL.

Its tables and functions come from `absurd.sql` of its repository, which the package lacks: `ABSURD_SQL` is the path.
"""

import asyncio
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd

from benchmarks.peers.load import WARM, Bench, digest, run

QUEUE = "bench"
LEASE_S = 120
POLL_S = 0.02
"""How often the worker looks for tasks; by default four times a second, which would count against short runs."""


def define(app: AsyncAbsurd, bench: Bench, ended: dict[str, asyncio.Event]) -> None:
    @app.register_task("agent", queue=QUEUE)
    async def agent(params: Any, context: Any) -> Any:
        goal = params["goal"]
        messages: list[dict[str, str | None]] = [{"text": goal}]
        found: list[str] = []
        while True:
            number = len(found) + 1

            async def model(number: int = number) -> dict[str, str | None]:
                turn = bench.turn(goal, number)
                return {"text": turn.text, "sku": turn.sku}

            reply = await context.step(f"model-{number}", model)
            messages.append(reply)
            if not reply["sku"]:
                break

            async def find(sku: str = reply["sku"]) -> str:
                return bench.find(sku)

            found.append(await context.step(f"find-{number}", find))
            messages.append({"text": found[-1]})
        ended[goal].set()
        seen = found if bench.task.effects else digest(found)
        return {"answer": reply["text"], "seen": seen}


def install(store: str) -> None:
    """The schema, unless it is there."""
    path = Path(os.environ.get("ABSURD_SQL", ""))
    if not path.is_file():
        raise SystemExit("ABSURD_SQL does not say where absurd.sql is")
    with psycopg.connect(store, autocommit=True) as connection:
        if connection.execute("SELECT to_regnamespace('absurd')").fetchone() == (None,):
            connection.execute(path.read_bytes())
            connection.execute("SELECT absurd.create_queue(%s)", (QUEUE,))


async def peer(bench: Bench) -> None:
    task = bench.task
    install(task.store)
    ended: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
    client = AsyncAbsurd(task.store, queue_name=QUEUE)
    app = AsyncAbsurd(task.store, queue_name=QUEUE)
    define(client, bench, ended)
    define(app, bench, ended)
    lease_s = task.lease_s if task.effects else LEASE_S
    serving = app.start_worker(claim_timeout=lease_s, concurrency=task.sessions, poll_interval=POLL_S)
    worker = asyncio.create_task(serving)

    async def session(goal: str) -> None:
        spawned = await client.spawn("agent", {"goal": goal}, idempotency_key=goal)
        if not task.effects:
            await ended[goal].wait()
        result = (await client.await_task_result(spawned["task_id"])).result
        assert isinstance(result, dict)
        if task.effects:
            bench.judge(goal, result["seen"], result["answer"])
        else:
            bench.judge_digest(goal, result["seen"], result["answer"])

    if not task.effects:
        await session(WARM)
    with bench.measured():
        await bench.each(session)
    worker.cancel()


if __name__ == "__main__":
    run(peer, "absurd-sdk")
