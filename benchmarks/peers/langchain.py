"""LangChain's agent (`create_agent`) without a checkpointer, which keeps nothing."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from benchmarks.peers.load import WARM, Bench, run


class Instant(BaseChatModel):
    bench: Any

    @property
    def _llm_type(self) -> str:
        return "instant"

    def bind_tools(self, tools: Any, **options: Any) -> "Instant":
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        number = len(messages) // 2 + 1
        turn = self.bench.turn(messages[0].content, number)
        calls = [{"name": "find", "args": turn.arguments, "id": f"call_{number}"}] if turn.sku else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(turn.text, tool_calls=calls))])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        return self._generate(messages)


async def peer(bench: Bench) -> None:
    @tool
    async def find(sku: str) -> str:
        """Look a part up."""
        return bench.find(sku)

    agent = create_agent(Instant(bench=bench), tools=[find])

    async def session(goal: str) -> None:
        begins: Any = {"messages": [{"role": "user", "content": goal}]}
        state = await agent.ainvoke(begins, {"recursion_limit": 2 * bench.task.steps + 10})
        found = [message.content for message in state["messages"] if message.type == "tool"]
        bench.judge(goal, found, state["messages"][-1].content)

    await session(WARM)
    with bench.measured():
        await bench.each(session)


if __name__ == "__main__":
    run(peer, "langchain", "langgraph")
