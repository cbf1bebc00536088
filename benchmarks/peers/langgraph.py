"""LangGraph with a checkpointer: a graph of a model node and a tool node, as its quickstart builds it.

`durability="sync"`: each checkpoint is written before the next step begins. The blocking interface is measured unless
`variant` says otherwise, because it is the cheaper one; `async` is the other, and `delta` keeps the messages in a
`DeltaChannel` (beta), which stores what a step added instead of the whole list.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.peers.load import WARM, Bench, run

CONNECTIONS = 20
SETTINGS: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
"""What the documentation asks for of connections that it is given."""

Node = Callable[[Any], Any]


class DeltaState(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer)]


@contextlib.asynccontextmanager
async def open_saver(store: str, *, is_async: bool) -> AsyncIterator[Any]:
    """The checkpointer, on PostgreSQL with a pool of connections."""
    path = store.removeprefix("sqlite:///")
    async with contextlib.AsyncExitStack() as stack:
        saver: Any
        if store.startswith("sqlite:") and is_async:
            saver = await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        elif store.startswith("sqlite:"):
            saver = stack.enter_context(SqliteSaver.from_conn_string(path))
        elif is_async:
            pool = AsyncConnectionPool(store, min_size=1, max_size=CONNECTIONS, kwargs=SETTINGS, open=False)
            saver = AsyncPostgresSaver(await stack.enter_async_context(pool))
        else:
            blocking = ConnectionPool(store, min_size=1, max_size=CONNECTIONS, kwargs=SETTINGS, open=False)
            saver = PostgresSaver(stack.enter_context(blocking))
        made = saver.setup()
        if made is not None:
            await made
        yield saver


def build(bench: Bench, saver: Any, *, is_async: bool) -> Any:
    def model(state: Any) -> dict[str, Any]:
        messages = state["messages"]
        number = len(messages) // 2 + 1
        turn = bench.turn(messages[0].content, number)
        calls = [{"name": "find", "args": turn.arguments, "id": f"call_{number}"}] if turn.sku else []
        return {"messages": [AIMessage(turn.text, tool_calls=calls)]}

    def tools(state: Any) -> dict[str, Any]:
        calls = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(bench.find(call["args"]["sku"]), tool_call_id=call["id"]) for call in calls]}

    def onward(state: Any) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    graph = StateGraph(DeltaState if bench.task.variant == "delta" else MessagesState)
    graph.add_node("model", _as_coroutine(model) if is_async else model)
    graph.add_node("tools", _as_coroutine(tools) if is_async else tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", onward, ["tools", END])
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


def _as_coroutine(node: Node) -> Node:
    async def act(state: Any) -> Any:
        return node(state)

    return act


async def peer(bench: Bench) -> None:
    is_async = bench.task.variant == "async"
    threads = ThreadPoolExecutor(max(1, bench.task.sessions))
    loop = asyncio.get_running_loop()
    async with open_saver(bench.task.store, is_async=is_async) as saver:
        graph = build(bench, saver, is_async=is_async)

        async def session(goal: str) -> None:
            config = {"configurable": {"thread_id": goal}, "recursion_limit": 2 * bench.task.steps + 10}
            begins: Any = {"messages": [HumanMessage(goal)]}
            if is_async:
                state = await graph.ainvoke(begins, config, durability="sync")
            else:
                if bench.task.recover and graph.get_state(config).values:
                    begins = None
                state = await loop.run_in_executor(threads, lambda: graph.invoke(begins, config, durability="sync"))
            found = [message.content for message in state["messages"] if message.type == "tool"]
            bench.judge(goal, found, state["messages"][-1].content)

        if not bench.task.effects:
            await session(WARM)
        with bench.measured():
            await bench.each(session)


if __name__ == "__main__":
    run(peer, "langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres")
