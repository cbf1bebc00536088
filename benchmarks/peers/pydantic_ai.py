"""Pydantic AI's agent, which keeps nothing."""

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UsageLimits
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from benchmarks.peers.load import WARM, Bench, run


async def peer(bench: Bench) -> None:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        first = messages[0].parts[0]
        assert isinstance(first, UserPromptPart)
        number = len(messages) // 2 + 1
        turn = bench.turn(str(first.content), number)
        if turn.sku is None:
            return ModelResponse([TextPart(turn.text)])
        return ModelResponse([TextPart(turn.text), ToolCallPart("find", turn.arguments, f"call_{number}")])

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def find(sku: str) -> str:
        """Look a part up."""
        return bench.find(sku)

    async def session(goal: str) -> None:
        result = await agent.run(goal, usage_limits=UsageLimits(request_limit=None))
        requests = [message for message in result.all_messages() if isinstance(message, ModelRequest)]
        parts = [part for request in requests for part in request.parts]
        bench.judge(goal, [str(part.content) for part in parts if isinstance(part, ToolReturnPart)], result.output)

    await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer, "pydantic-ai-slim")
