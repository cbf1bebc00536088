"""The OpenAI Agents SDK's agent, without a session, which keeps nothing; its tracing is off."""

import json
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from benchmarks.peers.load import WARM, Bench, run


class Instant(Model):
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **options: Any) -> ModelResponse:  # noqa: A002
        items = [{"content": input}] if isinstance(input, str) else input
        number = sum(item.get("type") == "function_call_output" for item in items) + 1
        turn = self._bench.turn(items[0]["content"], number)
        text = ResponseOutputText(text=turn.text, type="output_text", annotations=[])
        said = ResponseOutputMessage(
            id=f"msg_{number}", content=[text], role="assistant", status="completed", type="message"
        )
        output: list[Any] = [said]
        if turn.sku is not None:
            arguments = json.dumps(turn.arguments)
            output.append(
                ResponseFunctionToolCall(
                    arguments=arguments, call_id=f"call_{number}", name="find", type="function_call"
                )
            )
        return ModelResponse(output, Usage(), None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("nobody asks for a stream")


async def peer(bench: Bench) -> None:
    set_tracing_disabled(True)

    @function_tool
    async def find(sku: str) -> str:
        """Look a part up."""
        return bench.find(sku)

    agent = Agent("bench", model=Instant(bench), tools=[find])

    async def session(goal: str) -> None:
        result = await Runner.run(
            agent, goal, max_turns=bench.task.steps + 2, run_config=RunConfig(tracing_disabled=True)
        )
        found = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        bench.judge(goal, found, result.final_output)

    await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer, "openai-agents")
