"""Microsoft Agent Framework's agent, without a session, which keeps nothing."""

from typing import Any

from agent_framework import Agent, BaseChatClient, ChatResponse, Content, FunctionInvocationLayer, Message, tool

from benchmarks.peers.load import WARM, Bench, run


class Instant(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    def __init__(self, bench: Bench) -> None:
        super().__init__(function_invocation_configuration={"max_iterations": bench.task.steps + 2})
        self._bench = bench

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **rest: Any) -> Any:
        return self._answer(messages)

    async def _answer(self, messages: Any) -> ChatResponse:
        number = len(messages) // 2 + 1
        turn = self._bench.turn(messages[0].text, number)
        contents = [Content.from_text(turn.text)]
        if turn.sku is not None:
            contents.append(Content.from_function_call(f"call_{number}", "find", arguments=turn.arguments))
        return ChatResponse(messages=[Message("assistant", contents)])


async def peer(bench: Bench) -> None:
    @tool(approval_mode="never_require")
    async def find(sku: str) -> str:
        """Look a part up."""
        return bench.find(sku)

    agent = Agent(client=Instant(bench), tools=[find])

    async def session(goal: str) -> None:
        response = await agent.run(goal)
        contents = [content for message in response.messages for content in message.contents]
        found = [str(content.result) for content in contents if content.type == "function_result"]
        bench.judge(goal, found, response.messages[-1].text)

    await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer, "agent-framework-core")
