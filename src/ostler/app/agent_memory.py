"""What an agent's definition says of its memory: which tools it gets for it, and what is wrong with it."""

from fnmatch import fnmatchcase

from ostler.app.definition import Problem
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS, RECALLED_MAX, RECALLED_TOKENS_MAX
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec

NAMES = frozenset(spec.name for spec in MEMORY_TOOLS)


def memory_tools(settings: MemorySettings | None) -> list[ToolSpec]:
    """The tools of memory that an agent with these settings has; none without any."""
    if settings is None:
        return []
    return [spec for spec in MEMORY_TOOLS if any(fnmatchcase(spec.name, pattern) for pattern in settings.tools)]


def problems_in_agent_memory(settings: MemorySettings) -> list[Problem]:
    """What types cannot say of the settings, with the path of each."""
    problems: list[Problem] = []
    for number, pattern in enumerate(settings.tools):
        if not any(fnmatchcase(name, pattern) for name in NAMES):
            near = did_you_mean(pattern, NAMES)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(spec.name for spec in MEMORY_TOOLS)}"
            problems.append((f"memory.tools[{number}]", f"no tool of memory is called {pattern!r} ({hint})"))
    if settings.level not in settings.writes:
        problems.append(("memory.level", f"{settings.level!r} is not among `writes`, so that nothing could be kept"))
    bounds = (
        ("recall_max", RECALLED_MAX),
        ("recall_tokens", RECALLED_TOKENS_MAX),
        ("working_entries", 10_000),
        ("working_tokens", 1_000_000),
    )
    for name, most in bounds:
        value: int = getattr(settings, name)
        if not 0 <= value <= most:
            problems.append((f"memory.{name}", f"must be from 0 to {most}, got {value}"))
    if "" in settings.single:
        problems.append(("memory.single", "has an empty name, which no relation has"))
    return problems
