"""A project whose agent is played by deterministic code, for the command line to work on. The goal names the part."""

import os
from collections.abc import Callable
from pathlib import Path

from ostler.app import plugins
from ostler.cli import main
from ostler.domain.model import AssistantMessage, ModelRequest, Reply, Usage
from ostler.kernel.errors import ProviderRejected
from ostler.testing import calls

PROJECT = """
model = "strategy:clerk"
tools = ["tools.py"]

[prices."strategy:clerk"]
input_microusd = 1_000_000
output_microusd = 1_000_000
"""

CLERK = """
name = "clerk"
tools = ["look", "pay", "rob", "write_much", "hang", "chat"]

[limits]
steps = 4
tokens = 100_000

[[policy.rules]]
name = "ask-before-paying"
effect = "require"
tool = "pay"
because = "money is leaving"

[[policy.rules]]
name = "no-robbery"
effect = "deny"
tool = "rob"
because = "it is not ours"
"""

TOOLS = '''
import asyncio
from pathlib import Path

from ostler import tool


@tool(effect="read")
async def look() -> str:
    """Look."""
    return "seen"


@tool
async def pay(amount: int) -> str:
    """Pay."""
    with open("paid", "a") as file:
        file.write(f"{amount}\\n")
    return "paid"


@tool
async def rob() -> str:
    """Rob."""
    Path("robbed").touch()
    return "robbed"


@tool(effect="read")
async def write_much() -> str:
    """Write much."""
    return "much " * 20_000


@tool
def chat() -> str:
    """Print."""
    print("printed by a tool")
    return "said\\nand done"


@tool
async def hang() -> str:
    """Hang until there is a file `go`."""
    with open("hung", "a") as file:
        file.write("hung\\n")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "went on"
'''

_USAGE = Usage(input_tokens=1000, output_tokens=1000)

PARTS: dict[str, list[Reply | str]] = {
    "answer": ["forty-two"],
    "pay": [calls(("pay", {"amount": 5}), usage=_USAGE), "paid it"],
    "rob": [calls(("rob", {})), "I may not"],
    "write": [calls(("write_much", {})), "wrote"],
    "chat": [calls(("chat", {})), "chatted"],
    "hang": [calls(("hang", {})), "hung and went on"],
    "look for ever": [calls(("look", {}))] * 9,
    "compute": [calls(("code.run", {"code": "pay(amount=5)"})), "computed"],
    "spend": [calls(("look", {}), usage=Usage(input_tokens=99_990))] * 9,
}


def clerk(request: ModelRequest) -> Reply:
    """Plays the part that the goal names; where it stands follows from the transcript."""
    goal = next(iter(request.messages))
    assert not isinstance(goal, AssistantMessage)
    if goal.text not in PARTS:
        raise ProviderRejected(f"There is no part {goal.text!r}.", status=400)
    said = PARTS[goal.text][sum(isinstance(message, AssistantMessage) for message in request.messages)]
    return Reply(said) if isinstance(said, str) else said


def make_project(folder: Path) -> None:
    (folder / "agents").mkdir()
    (folder / "ostler.toml").write_text(PROJECT)
    (folder / "tools.py").write_text(TOOLS)
    (folder / "agents/clerk.toml").write_text(CLERK)


def play(put: Callable[[dict[str, str], str, str], None] = dict.__setitem__) -> None:
    """Make the strategy known; `put` sets an item of a dictionary."""
    put(plugins.STRATEGIES, "clerk", "tests.cli.play:clerk")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "200")
    play()
    main()
