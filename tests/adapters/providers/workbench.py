"""Plays sessions of the repairing strategy for real: its calls are performed on a copy of a project."""

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.providers import repair
from ostler.adapters.providers.strategy import Strategy
from ostler.adapters.tools.files import FileTools
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.policy import Policy
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Message,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reply,
    ToolMessage,
    UserMessage,
)
from ostler.domain.tool import ToolOutcome, ToolRequest, ToolSpec, failed, observation, succeeded

EXAMPLE = Path(__file__).parents[3] / "examples" / "coder" / "repo"
FILE_TOOLS = FileTools()
SHELL = ToolSpec(name="shell.run", description="Run a program.", parameters={"type": "object"})
TOOLS = (*FILE_TOOLS.specs(), SHELL)
TURNS_MAX = 60

Before = Callable[[AskedCall, dict[str, Any]], ToolOutcome | None]
"""May answer a call instead of the workspace."""


def coder_policy() -> Policy:
    text = (resources.files("ostler.app") / "builtin" / "coder.toml").read_text()
    return msgspec.convert(tomllib.loads(text)["policy"], Policy)


def nothing_before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
    return None


class Session:
    """One run of a strategy in a folder, under the policy of `coder`. `approves`: what a person says if asked."""

    def __init__(
        self,
        folder: Path,
        *,
        strategy: Strategy = repair.coder,
        before: Before = nothing_before,
        approves: bool = True,
        goal: str = "make the tests pass",
    ) -> None:
        self.folder = folder
        self.messages: list[Message] = [UserMessage(goal)]
        self._strategy = strategy
        self._before = before
        self._approves = approves
        self._policy = coder_policy()

    @property
    def turns(self) -> list[AssistantMessage]:
        return [message for message in self.messages if isinstance(message, AssistantMessage)]

    def asked(self, tool: str) -> list[dict[str, Any]]:
        calls = [call for turn in self.turns for call in turn.calls if call.name == tool]
        return [msgspec.json.decode(call.arguments) for call in calls]

    def run(self) -> str:
        """Play until the final answer."""
        while len(self.turns) < TURNS_MAX:
            reply = self._strategy(request(self.messages))
            number = len(self.turns) + 1
            calls = tuple(
                AskedCall(f"{number}.{n}", call.name, call.arguments) for n, call in enumerate(reply.calls, 1)
            )
            self.messages.append(AssistantMessage(reply.text, calls))
            if not calls:
                return reply.text
            for call in calls:
                outcome = self._outcome(call)
                self.messages.append(ToolMessage(call.id, call.name, observation(outcome), outcome.ok))
        raise AssertionError(f"no answer after {TURNS_MAX} turns; the last said {self.turns[-1].text!r}")

    def _outcome(self, call: AskedCall) -> ToolOutcome:
        arguments: dict[str, Any] = msgspec.json.decode(call.arguments)
        verdict = compile_policy(self._policy).judge(Facts(tool=call.name, args=arguments))
        if verdict.effect == "deny":
            return failed("blocked", f"{verdict.reason} [{verdict.rule}]")
        if verdict.effect == "require" and not self._approves:
            return failed("blocked", "ada denied it: not today")
        return self._before(call, arguments) or perform(self.folder, call.name, arguments, key=call.id)


def perform(folder: Path, tool: str, arguments: dict[str, Any], *, key: str) -> ToolOutcome:
    if tool == "shell.run":
        return _shell(folder, **arguments)
    asked = ToolRequest(tool, arguments, key=key, tenant="default", timeout_s=30.0, workspace=str(folder))
    return asyncio.run(FILE_TOOLS.perform(asked))


def _shell(folder: Path, argv: list[str], timeout_s: float = 30.0) -> ToolOutcome:
    program = sys.executable if argv[0] == "python3" else argv[0]
    try:
        done = subprocess.run(
            [program, *argv[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return failed("timeout", f"stopped after {timeout_s:g} s")
    return succeeded({"exit": done.returncode, "output": done.stdout.decode()})


def request(messages: Sequence[Message], *, name: str = "coder", tools: tuple[ToolSpec, ...] = TOOLS) -> ModelRequest:
    model = ModelRef("strategy", "strategy", name)
    return ModelRequest(model, "You repair.", messages, tools, ModelSettings(), key="ses_1/1")


def answer_to(messages: Sequence[Message]) -> Reply:
    return repair.coder(request(messages))
