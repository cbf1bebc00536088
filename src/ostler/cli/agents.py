"""What agents have done so far."""

from typing import Any

import click
import msgspec

from ostler.app.service import Runtime
from ostler.app.work import Record, work_of_agents
from ostler.cli.base import using_runtime
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count, usd
from ostler.kernel.event import timestamp


@click.command()
@click.argument("name", required=False)
@output_options
def agents(name: str | None, output: Format) -> None:
    """Show what each agent has done so far, by version: sessions and how they ended, calls, approvals, costs.

    NAME is an agent (coder) or one version of it (coder@3).
    """

    async def look(runtime: Runtime) -> tuple[list[Record], int]:
        return await work_of_agents(runtime.parts, name=name)

    found, behind = using_runtime(look)
    if behind:
        say(f"The last {count(behind, 'event')} of the log are not counted yet: the store cannot be written to.")
    if not found and output == "table":
        say(f"{name} has done nothing here yet." if name else "No agent has done anything here yet.")
        return
    emit([_public(record) for record in found], output, lambda: _table(found))


def _public(record: Record) -> dict[str, Any]:
    body = msgspec.structs.asdict(record.work)
    first_us, last_us = body.pop("first_us"), body.pop("last_us")
    return {"agent": record.agent, **body, "first": timestamp(first_us), "last": timestamp(last_us)}


def _table(found: list[Record]) -> Rows:
    rows = []
    for record in found:
        work = record.work
        numbers = (
            *(work.sessions, work.model_calls, work.tool_calls, work.tool_failures, work.refused),
            *(work.asked, work.granted, work.denied + work.returned + work.expired),
        )
        endings = ", ".join(f"{number} {ending}" for ending, number in sorted(work.endings.items()))
        shown = [f"{number:,}" if number else "–" for number in numbers]
        name = record.agent.removeprefix("agent:")
        rows.append([name, *shown, usd(work.cost_microusd), endings or "–", timestamp(work.first_us)[:10]])
    columns = ("sessions>", "model calls>", "tool calls>", "failed>", "refused>", "asked>", "granted>", "not granted>")
    return Rows("agent", *columns, "cost>", "ended~", "since", rows=rows)
