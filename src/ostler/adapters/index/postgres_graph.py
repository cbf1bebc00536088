"""Relations and entities in PostgreSQL, straight from the rows of the facts that state them."""

from collections.abc import Sequence

from ostler.adapters.index.postgres_reading import Question, Server, plain, storable
from ostler.adapters.index.postgres_writing import NAME_CHARACTERS, digest
from ostler.adapters.index.rows import decode_described, decode_memory, edge
from ostler.domain.memory.memory import normal
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import Direction, Edge, Entity, Filter

EDGES = """
    SELECT m.position, m.body FROM looked CROSS JOIN LATERAL (
        SELECT m.position, m.body FROM @schema.memories AS m
        WHERE m.scope = looked.key AND m.subject IS NOT NULL AND m.position > {after} AND {condition}
        ORDER BY m.position LIMIT {limit}
    ) AS m ORDER BY m.position LIMIT {limit}
"""
STEP = """
    SELECT DISTINCT ON (m.position) m.position, m.subject, m.object, m.body FROM ({ways}) AS m
    ORDER BY m.position LIMIT {limit}
"""
WAY = f"""
    SELECT m.* FROM looked CROSS JOIN unnest({{names}}::text[]) AS asked (name) CROSS JOIN LATERAL (
        SELECT m.position, m.subject, m.object, m.body FROM @schema.memories AS m
        WHERE m.scope = looked.key AND m.{{side}} IS NOT NULL AND m.{{side}} = asked.name
            AND left(m.{{side}}, {NAME_CHARACTERS}) = left(asked.name, {NAME_CHARACTERS}) AND {{condition}}
        ORDER BY m.position LIMIT {{limit}}
    ) AS m
"""
NAMES_NOW = """
    SELECT DISTINCT m.name FROM looked JOIN @schema.memory_names AS m ON m.scope = looked.key
    ORDER BY m.name LIMIT {limit}
"""
THESE_NOW = """
    SELECT DISTINCT m.name FROM looked CROSS JOIN unnest({digests}::bytea[]) AS asked (digest) CROSS JOIN LATERAL (
        SELECT m.name FROM @schema.memory_names AS m WHERE m.scope = looked.key AND m.digest = asked.digest LIMIT 1
    ) AS m ORDER BY m.name LIMIT {limit}
"""
NAMES_DESCRIBED = """
    SELECT DISTINCT m.name FROM looked JOIN @schema.memory_entities AS m ON m.scope = looked.key AND {among}
        WHERE {then}
    ORDER BY m.name LIMIT {limit}
"""
SHORT = f"left({{0}}, {NAME_CHARACTERS}) = ANY ({{1}}::text[]) AND {{0}} = ANY ({{2}}::text[])"
NAMES_THEN = """
    SELECT m.subject FROM looked JOIN @schema.memories AS m ON m.scope = looked.key AND m.subject IS NOT NULL
        AND {subject} WHERE {condition}
    UNION SELECT m.object FROM looked JOIN @schema.memories AS m ON m.scope = looked.key AND m.object IS NOT NULL
        AND {object} WHERE {condition}
    UNION SELECT m.name FROM looked JOIN @schema.memory_entities AS m ON m.scope = looked.key AND {among}
        WHERE {then}
    ORDER BY 1 LIMIT {limit}
"""
DESCRIBED = f"""
    SELECT DISTINCT ON (m.name) m.name, m.body FROM looked CROSS JOIN unnest({{names}}::text[]) AS asked (name)
    CROSS JOIN LATERAL (
        SELECT m.name, m.body FROM @schema.memory_entities AS m
        WHERE m.scope = looked.key AND m.name = asked.name
            AND left(m.name, {NAME_CHARACTERS}) = left(asked.name, {NAME_CHARACTERS}) AND {{then}}
        ORDER BY m.position DESC LIMIT 1
    ) AS m ORDER BY m.name, looked.number
"""
MENTIONED = f"""
    SELECT asked.name, found.side, found.body FROM unnest({{names}}::text[]) AS asked (name) CROSS JOIN LATERAL (
        (SELECT 'subject' AS side, looked.number, m.position, m.body FROM looked JOIN @schema.memories AS m
            ON m.scope = looked.key AND left(m.subject, {NAME_CHARACTERS}) = left(asked.name, {NAME_CHARACTERS})
            AND m.subject = asked.name WHERE {{condition}} ORDER BY looked.number, m.position LIMIT 1)
        UNION ALL
        (SELECT 'object', looked.number, m.position, m.body FROM looked JOIN @schema.memories AS m
            ON m.scope = looked.key AND left(m.object, {NAME_CHARACTERS}) = left(asked.name, {NAME_CHARACTERS})
            AND m.object = asked.name WHERE {{condition}} ORDER BY looked.number, m.position LIMIT 1)
        ORDER BY side DESC LIMIT 1
    ) AS found
"""
SIDES = {"out": ("subject",), "in": ("object",), "both": ("subject", "object")}


async def edges(
    server: Server, scopes: Sequence[Scope], which: Filter, *, after: int, limit: int
) -> list[tuple[int, Edge]]:
    """The relations in force, each with the position of the fact that states it."""
    question = Question(scopes)
    condition = question.conditions(which)
    query = EDGES.format(after=question.put(after), condition=condition, limit=question.put(limit))
    return [(position, edge(body)) for position, body in await question.ask(server, query)]


async def neighbourhood(
    server: Server,
    scopes: Sequence[Scope],
    names: Sequence[str],
    which: Filter,
    *,
    depth: int,
    relations: Sequence[str],
    direction: Direction,
    limit: int,
) -> list[tuple[int, Edge]]:
    """The relations on ways of at most `depth` steps from these names, each with its distance, nearest first and of
    the same distance the oldest first. Each step is one question.
    """
    frontier = {storable(normal(name)) for name in names}
    visited, found = set(frontier), dict[int, tuple[int, Edge]]()
    for distance in range(1, depth + 1):
        if not frontier or len(found) >= limit:
            break
        question = Question(scopes)
        query = _step(question, sorted(frontier), which, relations=relations, direction=direction, limit=limit)
        reached: set[str] = set()
        for position, one_end, other_end, body in await question.ask(server, query):
            if position not in found and len(found) < limit:
                found[position] = (distance, edge(body))
                reached |= {one_end, other_end}
        frontier = reached - visited
        visited |= frontier
    return list(found.values())


def _step(
    question: Question,
    frontier: Sequence[str],
    which: Filter,
    *,
    relations: Sequence[str],
    direction: Direction,
    limit: int,
) -> str:
    """Of these as many as are wanted in all: at most so many of them were found before."""
    place, condition = question.put(frontier), question.conditions(which)
    if relations:
        condition += f" AND m.relation = ANY ({question.put(plain(relations))}::text[])"
    most = question.put(limit)
    ways = [WAY.format(names=place, side=side, condition=condition, limit=most) for side in SIDES[direction]]
    return STEP.format(ways=" UNION ALL ".join(ways), limit=most)


async def entities(
    server: Server,
    scopes: Sequence[Scope],
    names: Sequence[str] | None,
    *,
    as_of: int | None,
    is_described: bool,
    limit: int,
) -> list[Entity]:
    """Those described by the first of these scopes that does, or named by a relation in force."""
    found = await _named(server, scopes, names, as_of=as_of, is_described=is_described, limit=limit)
    said: dict[str, Entity] = {}
    question = Question(scopes)
    then = "true" if as_of is None else f"m.position <= {question.put(as_of)}"
    for name, body in await question.ask(server, DESCRIBED.format(names=question.put(found), then=then)):
        described = decode_described(body)
        said[name] = Entity(described.name, described.kind, described.properties, described.labels)
    rest = [name for name in found if name not in said]
    if rest and not is_described:
        question = Question(scopes)
        condition = question.conditions(Filter(as_of=as_of))
        query = MENTIONED.format(names=question.put(rest), condition=condition)
        for name, side, body in await question.ask(server, query):
            said[name] = _mentioned(body, side)
    return [said[name] for name in found if name in said]


async def _named(
    server: Server,
    scopes: Sequence[Scope],
    names: Sequence[str] | None,
    *,
    as_of: int | None,
    is_described: bool,
    limit: int,
) -> list[str]:
    question = Question(scopes)
    normals = sorted({storable(normal(name)) for name in names or ()})
    if as_of is None and names is None and not is_described:
        query = NAMES_NOW.format(limit=question.put(limit))
    elif as_of is None and not is_described:
        digests = question.put([digest(name) for name in normals])
        query = THESE_NOW.format(digests=digests, limit=question.put(limit))
    else:
        among = dict.fromkeys(("name", "subject", "object"), "true")
        if names is not None:
            short, whole = question.put([name[:NAME_CHARACTERS] for name in normals]), question.put(normals)
            among = {column: SHORT.format(f"m.{column}", short, whole) for column in among}
        then = "true" if as_of is None else f"m.position <= {question.put(as_of)}"
        if is_described:
            query = NAMES_DESCRIBED.format(among=among["name"], then=then, limit=question.put(limit))
        else:
            query = NAMES_THEN.format(
                subject=among["subject"],
                object=among["object"],
                among=among["name"],
                condition=question.conditions(Filter(as_of=as_of)),
                then=then,
                limit=question.put(limit),
            )
    return [name for (name,) in await question.ask(server, query)]


def _mentioned(body: bytes, side: str) -> Entity:
    """An entity that nobody described is called as a relation calls it, and trusted as that is."""
    memory = decode_memory(body)
    relation = memory.relation
    assert relation is not None, "the row names an entity"
    return Entity(relation.subject if side == "subject" else relation.object, labels=memory.labels)
