"""The tools with which agents remember, over the memories of those whose session it is."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from ostler.domain.knowledge.graph import Direction, Edge
from ostler.domain.memory import tools
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.files import ROOT
from ostler.domain.memory.memory import Relation, normal
from ostler.domain.memory.recollection import Recollections
from ostler.domain.memory.writing import Remembered, Wish
from ostler.domain.tool import FailureKind, ToolOutcome, ToolRequest, ToolSpec, failed, succeeded
from ostler.kernel.errors import Conflict, NotAllowed, NotFound, OstlerError, StaleWrite, ToolNotFound, UsageError
from ostler.kernel.event import moment
from ostler.ports import Clock
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.asking import Asking, answered, asking, check_may_end, check_no_path, united
from ostler.runtime.memory.files import MemoryFiles
from ostler.runtime.memory.memories import Memories
from ostler.runtime.memory.recalling import recollection, recollections

EDGES_MAX = 2000
"""How many relations are looked at for one question."""

Perform = Callable[[Asking, dict[str, Any]], Awaitable[ToolOutcome]]


class MemoryTools:
    """Performs the calls of `MEMORY_TOOLS`. `memories` is asked for when the first of them comes."""

    def __init__(self, memories: Callable[[], Awaitable[Memories]], clock: Clock) -> None:
        self._memories = memories
        self._clock = clock
        self._files: MemoryFiles | None = None
        self._performers: dict[str, Perform] = {
            tools.REMEMBER: self._remember,
            tools.RECALL: self._recall,
            tools.FORGET: self._forget,
            tools.RELATE: self._relate,
            tools.QUERY_GRAPH: self._query_graph,
            tools.FILES: self._keep_files,
        }

    def specs(self) -> Sequence[ToolSpec]:
        return tools.MEMORY_TOOLS

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        try:
            return await self._performer(request.tool)(asking(request), request.arguments)
        except StaleWrite:
            raise  # somebody else was quicker too often: it may work the next time
        except (UsageError, NotFound, Conflict, NotAllowed) as error:
            return failed(_kind(error), f"{error.message} {error.hint}".rstrip())

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        """Nothing of this is in doubt after a crash: each call is performed again, and changes nothing then."""
        return None

    async def close(self) -> None:
        """The memories belong to whoever made them."""

    def _performer(self, tool: str) -> Perform:
        if tool not in self._performers:
            raise ToolNotFound(f"{tool} is not performed here: working memory is in the session itself.")
        return self._performers[tool]

    async def _remember(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        check_no_path(arguments.get("key", ""), ROOT)
        caused_by = arguments.get("caused_by", "")
        if caused_by:
            await self._visible(asked, [caused_by])
        wish = Wish(
            kind=arguments.get("kind", "fact"),
            text=arguments["text"],
            source=asked.source,
            labels=asked.taint.labels,
            importance=arguments.get("importance", 0.5),
            tags=tuple(arguments.get("tags", ())),
            key=arguments.get("key", ""),
            caused_by=caused_by,
            is_pinned=arguments.get("pinned", False),
        )
        scope = asked.writable(arguments.get("level"))
        return _written(await (await self._memories()).remember(scope, wish, key=asked.call))

    async def _recall(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        kind = arguments.get("kind")
        which = Filter(
            kinds=() if kind is None else (kind,),
            all_of=tuple(arguments.get("tags", ())),
            from_us=_moment_us(arguments, "after"),
            to_us=_moment_us(arguments, "before"),
        )
        found = await (await self._memories()).recall(
            asked.reader,
            arguments["query"],
            which=which,
            limit=arguments.get("limit", asked.settings.recall_max or 8),
            tokens=arguments.get("tokens", asked.settings.recall_tokens or 1000),
            call=asked.call,
            is_again=asked.attempt > 1,
        )
        return answered(recollections(found))

    async def _forget(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        entries = await self._visible(asked, arguments["ids"])
        check_may_end(asked, [entry for entry in entries if entry.until is None])
        because = arguments.get("because", "")
        for scope in dict.fromkeys(entry.scope for entry in entries):
            ids = [entry.memory.id for entry in entries if entry.scope == scope and entry.until is None]
            if ids:
                await (await self._memories()).forget(
                    scope, ids, by=asked.source.writer, because=because, source=asked.source
                )
        return succeeded({"forgotten": [entry.memory.id for entry in entries]})

    async def _relate(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        name = arguments["relation"]
        relation = Relation(
            subject=arguments["subject"],
            name=name,
            object=arguments["object"],
            weight=float(arguments.get("weight", 1.0)),
            is_single=arguments.get("single", name in asked.settings.single),
            properties=arguments.get("properties", {}),
        )
        wish = Wish(
            kind="fact",
            text=arguments.get("text") or f"{relation.subject} {name} {relation.object}",
            source=asked.source,
            labels=asked.taint.labels,
            relation=relation,
            valid_from_us=_moment_us(arguments, "valid_from"),
            valid_to_us=_moment_us(arguments, "valid_to"),
        )
        scope = asked.writable()
        remembered = await (await self._memories()).remember(scope, wish, key=asked.call)
        for entity, said in ((relation.subject, "subject_kind"), (relation.object, "object_kind")):
            if said in arguments:
                await self._describe(asked, entity, arguments[said])
        return _written(remembered)

    async def _describe(self, asked: Asking, name: str, kind: str) -> None:
        """Say what kind of thing an entity is. What outsiders may have said takes the place of nothing trusted."""
        scope = asked.writable()
        memories = await self._memories()
        await memories.catch_up([scope])
        known = await memories.index.entities([scope], [name])
        described = EntityDescribed(
            name=name,
            kind=kind,
            source=asked.source,
            properties=known[0].properties if known else {},
            labels=united(asked.taint.labels, known[0].labels if known else ()),
        )
        with suppress(NotAllowed):
            await memories.describe(scope, described)

    async def _query_graph(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        goal, direction = arguments.get("to"), arguments.get("direction", "both")
        visible = asked.reader.visible
        memories = await self._memories()
        await memories.catch_up(visible)
        found = await memories.index.neighbourhood(
            visible,
            [arguments["entity"]],
            depth=arguments.get("depth", 1 if goal is None else tools.DEPTH_MAX),
            relations=arguments.get("relations", ()),
            direction=direction,
            valid_at_us=self._clock.now_us(),
            limit=EDGES_MAX,
        )
        if goal is not None:
            found = _way([edge for _, edge in found], arguments["entity"], goal, direction)
        shown = found[: tools.RECALLED_MAX]
        distances = {edge.id: distance for distance, edge in shown}
        entries = await memories.index.get(visible, list(distances))
        await memories.count(entries, asked.call)
        told = tuple(recollection(entry, 1 / distances[entry.memory.id]) for entry in entries)
        cut = ("there are more relations than were looked at",) if len(found) >= EDGES_MAX else ()
        return answered(Recollections(told, left_out=len(found) - len(shown), missing=cut))

    async def _keep_files(self, asked: Asking, arguments: dict[str, Any]) -> ToolOutcome:
        if self._files is None:
            self._files = MemoryFiles(await self._memories())
        return await self._files.answer(asked, arguments)

    async def _visible(self, asked: Asking, ids: Sequence[str]) -> list[Entry]:
        """The memories with these ids that this session may see. Raises `NotFound`."""
        visible = asked.reader.visible
        await (await self._memories()).catch_up(visible)
        entries = await (await self._memories()).index.get(visible, ids)
        if unknown := sorted(set(ids) - {entry.memory.id for entry in entries}):
            raise NotFound(f"There is no memory {', '.join(unknown)} here.", hint="Ids are `mem_…`, as recalled.")
        return entries


def _written(remembered: Remembered) -> ToolOutcome:
    """What a call that remembers is answered; the same at each of its attempts but for what followed from the first."""
    told: dict[str, object] = {
        "id": remembered.id,
        "outcome": remembered.outcome,
        "superseded": remembered.superseded,
        "contradicts": remembered.contradicts,
    }
    if remembered.id in remembered.evicted:
        told["outcome"] = "evicted: all that there is room for matters more"
    return succeeded(told)


def _moment_us(arguments: dict[str, Any], name: str) -> int | None:
    """The moment that an argument names, None if it is not given. Raises `UsageError`."""
    if name not in arguments:
        return None
    at_us = moment(arguments[name])
    if at_us is None:
        raise UsageError(f"{name}: {arguments[name]!r} is no time; write 2026-03-01 or 2026-03-01T09:30:00Z.")
    return at_us


def _way(edges: Sequence[Edge], start: str, goal: str, direction: Direction) -> list[tuple[int, Edge]]:
    """The relations on a shortest way, in order, each with its number on it; none if there is no way among these."""
    steps: dict[str, list[tuple[str, Edge]]] = {}
    for edge in edges:
        subject, object_ = normal(edge.subject), normal(edge.object)
        if direction != "in":
            steps.setdefault(subject, []).append((object_, edge))
        if direction != "out":
            steps.setdefault(object_, []).append((subject, edge))
    ways: dict[str, list[Edge]] = {normal(start): []}
    reached = [normal(start)]
    for place in reached:
        for other, edge in steps.get(place, ()):
            if other not in ways:
                ways[other] = [*ways[place], edge]
                reached.append(other)
    return list(enumerate(ways.get(normal(goal), ()), 1))


def _kind(error: OstlerError) -> FailureKind:
    match error:
        case NotFound():
            return "not_found"
        case NotAllowed():
            return "blocked"
        case UsageError():
            return "invalid"
        case _:
            return "permanent"
