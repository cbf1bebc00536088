"""Programs that agents write, in a real interpreter: each of their calls passes the gate and stands in the log."""

import msgspec
import pytest

from ostler import Agent, Policy, Runtime, Tool, tool
from ostler.adapters.tools.code import CodeTools
from ostler.domain.session.events import ToolRequested
from ostler.testing import Scripted, calls

PROGRAM = """
found = [look_up(name=name) for name in ("anna", "bert")]
pay(to=found[0], amount=5)
try:
    pay(to=found[1], amount=5000)
except RuntimeError as error:
    found.append(str(error))
found
"""


class Bank:
    def __init__(self) -> None:
        self.paid: list[tuple[str, int]] = []

        @tool(name="look-up", effect="read")
        def look_up(name: str) -> str:
            """Find the account of somebody."""
            return f"account of {name}"

        @tool
        def pay(to: str, amount: int) -> str:
            """Pay."""
            self.paid.append((to, amount))
            return "paid"

        self.tools: list[Tool] = [look_up, pay]


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
async def test_every_call_of_a_program_passes_the_gate_and_stands_in_the_log(store: str, tmp_path) -> None:
    bank, code = Bank(), CodeTools()
    (run,) = code.specs()
    agent = Agent(
        "teller",
        tools=bank.tools,
        rules=Policy("teller", text='default allow DENY tool.pay IF args.amount > 1000 BECAUSE "too much"'),
        model=(model := Scripted(calls(("code.run", {"code": PROGRAM})), "done")),
    )
    spec = msgspec.structs.replace(agent.spec, tools=(*agent.spec.tools, run))
    where = store if store == "memory:" else tmp_path / "store.db"
    async with Runtime.open(where, agents=[agent]) as runtime:
        session = await runtime.start(spec, "pay anna and bert", model=model.ref)
        result = await session.result(timeout_s=30)
        assert str(result) == "done"
        facts = await session.facts()
        state = await session.state()
    assert bank.paid == [("account of anna", 5)]
    requested = [event for _, event in facts if isinstance(event, ToolRequested)]
    assert [(event.call, event.tool) for event in requested] == [
        ("1.1", "code.run"),
        ("1.1.1", "look-up"),
        ("1.1.2", "look-up"),
        ("1.1.3", "pay"),
    ]
    assert all(event.policy.startswith("teller@1/") for event in requested)
    assert "too much" in state.transcript[2].text
