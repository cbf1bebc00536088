"""Who takes part, on which store, and what each of them promises."""

import msgspec


class Contender(msgspec.Struct, frozen=True):
    """`store` is `sqlite`, `postgres` or empty for loops that keep nothing. `is_here` runs in our own environment."""

    name: str
    module: str
    store: str
    variant: str = ""
    tool: str = ""
    is_here: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, {STORES[self.store]}" if self.store else self.name


STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "": ""}


def ours(store: str, *, name: str = "Ostler", tool: str = "") -> Contender:
    return Contender(name, "ostler", store, tool=tool, is_here=True)


def floor(store: str) -> Contender:
    return Contender("raw inserts", "floor", store, is_here=True)


DURABLE = [
    ours("sqlite"),
    floor("sqlite"),
    Contender("LangGraph", "langgraph", "sqlite"),
    Contender("LangGraph, async", "langgraph", "sqlite", "async"),
    Contender("LangGraph, deltas (beta)", "langgraph", "sqlite", "delta"),
    Contender("DBOS", "dbos", "sqlite"),
    ours("postgres"),
    floor("postgres"),
    Contender("LangGraph", "langgraph", "postgres"),
    Contender("LangGraph, async", "langgraph", "postgres", "async"),
    Contender("LangGraph, deltas (beta)", "langgraph", "postgres", "delta"),
    Contender("DBOS", "dbos", "postgres"),
    Contender("Absurd", "absurd", "postgres"),
]
"""Each peer through its blocking interface, the cheaper one; LangGraph's others beside it."""

LOOPS = [
    ours("sqlite"),
    Contender("bare loop", "bare", "", is_here=True),
    Contender("Agent Framework", "agent_framework", ""),
    Contender("LangChain", "langchain", ""),
    Contender("Pydantic AI", "pydantic_ai", ""),
    Contender("OpenAI Agents", "openai_agents", ""),
]
"""Ours keeps and judges every step; the others keep nothing."""

MORTALS = [
    ours("sqlite", name="Ostler, tool `once`", tool="once"),
    ours("sqlite", name="Ostler, tool `reconcilable`", tool="reconcilable"),
    ours("postgres", name="Ostler, tool `once`", tool="once"),
    Contender("LangGraph", "langgraph", "sqlite"),
    Contender("DBOS", "dbos", "sqlite"),
    Contender("DBOS", "dbos", "postgres"),
    Contender("Absurd", "absurd", "postgres"),
]
"""Those whose processes are killed and stopped."""

PROMISES = {
    "ostler": "`once`: at most once, a call cut off is recorded as unknown; `reconcilable`: the tool is asked first",
    "langgraph": "a node cut off runs again: at least once. No leases: whoever resumes a thread runs it",
    "dbos": "a step cut off runs again: at least once; a finished one never. Goes on when its executor starts",
    "absurd": "a step cut off runs again: at least once; a finished one never. Leases, extended by every step",
}
