"""Nothing crosses a tenant: what one is answered is the same whatever another does, under the same names.

A random sequence of steps of two tenants is run, then the steps of each of them alone, under fresh names of tenants in
the same store. If anything of one tenant could be seen, counted, overwritten or used up by another, some answer would
differ between the two. The log of all and the census are looked at by their own tenant's part.
"""

import asyncio
import inspect
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.store.memory_ledger import MemoryLedger
from ostler.adapters.store.memory_limits import MemoryLimiter
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.adapters.store.postgres.blobs import PostgresBlobStore
from ostler.adapters.store.postgres.ledger import PostgresLedger
from ostler.adapters.store.postgres.limits import PostgresLimiter
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.postgres.views import PostgresViewStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_blobs import SqliteBlobStore
from ostler.adapters.store.sqlite_ledger import SqliteLedger
from ostler.adapters.store.sqlite_limits import SqliteLimiter
from ostler.adapters.store.sqlite_views import SqliteViewStore
from ostler.ports import BlobStore, EventStore, Ledger, Limiter, Vault, ViewStore
from tests.servers import fresh_schema
from tests.tenants.house import NAMES, House, Step

STEPS = [
    name
    for name, method in vars(House).items()
    if inspect.iscoroutinefunction(method) and name[0] != "_" and name != "do"
]
PROGRAMS = st.lists(
    st.tuples(st.booleans(), st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES), st.integers(0, 3))),
    min_size=2,
    max_size=30,
)
Program = list[tuple[bool, Step]]
Opener = Callable[[Path], AbstractAsyncContextManager[House]]
FRESH = count()


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[House]:
    yield House.of(MemoryStore(), MemoryBlobStore(), MemoryViewStore(), MemoryLimiter(), MemoryLedger(), folder)


@asynccontextmanager
async def in_a_file(folder: Path) -> AsyncIterator[House]:
    store = await SqliteStore.open(folder / "ostler.db")
    yield House.of(
        store, SqliteBlobStore(store), SqliteViewStore(store), SqliteLimiter(store), SqliteLedger(store), folder
    )
    await store.close()


@asynccontextmanager
async def on_a_server(url: str, folder: Path) -> AsyncIterator[House]:
    store = await PostgresStore.open(url)
    yield House.of(
        store,
        PostgresBlobStore(store),
        PostgresViewStore(store),
        PostgresLimiter(store),
        PostgresLedger(store),
        folder,
    )
    await store.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One store for all programs, because making one takes longer than anything that is asked of it."""
    with fresh_schema() as schema:
        yield schema


async def answers(house: House, program: Program) -> tuple[list[object], list[object]]:
    """What each of two new tenants is answered."""
    tenants = [f"acme-{next(FRESH)}", f"rival-{next(FRESH)}"]
    told: tuple[list[object], list[object]] = ([], [])
    for is_rival, step in program:
        told[is_rival].append((step, _anonymous(await house.do(tenants[is_rival], step), tenants[is_rival])))
    return told


def _anonymous(answer: object, tenant: str) -> str:
    return re.sub(r"gra_\w+", "GRANT", repr(answer).replace(tenant, "TENANT"))


async def crossed(house: House, program: Program) -> list[bool]:
    """Which of the two is answered otherwise because of the other."""
    together = await answers(house, program)
    found = []
    for is_rival in (False, True):
        alone = await answers(house, [step for step in program if step[0] == is_rival])
        if together[is_rival] != alone[is_rival]:
            found.append(is_rival)
    return found


def crossing(opener: Opener, program: Program) -> list[bool]:
    """As `crossed`, in a store of its own."""

    async def run() -> list[bool]:
        async with opener(Path(folder)) as house:
            return await crossed(house, program)

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run())


def both(*steps: Step) -> Program:
    """Each of these by the one, then by the other."""
    return [(is_rival, step) for step in steps for is_rival in (False, True)]


def each(is_rival: bool, *steps: str) -> Program:
    """These by one of them, to everything there is a name for."""
    return [(is_rival, (step, name, 1)) for name in NAMES for step in steps]


EVERYTHING = [
    *both(*((step, name, number) for number in (1, 2, 0, 3) for name in NAMES[:2] for step in STEPS)),
    *each(True, "drop", "give_back"),
    *each(False, "append", "put", "advance", "take", "reserve", "add", "lend", "hide"),
    *each(True, "get", "give_back"),
    (False, ("give_back", NAMES[0], 1)),
    (True, ("take", NAMES[0], 1)),
    (False, ("take", NAMES[2], 1)),
    *each(True, *STEPS),
]


@settings(max_examples=60)
@given(PROGRAMS)
@example(EVERYTHING)
def test_nothing_crosses_a_tenant_in_memory(program: Program) -> None:
    assert crossing(in_memory, program) == []


@settings(max_examples=25)
@given(PROGRAMS)
@example(EVERYTHING)
def test_nothing_crosses_a_tenant_in_a_file(program: Program) -> None:
    assert crossing(in_a_file, program) == []


@settings(max_examples=10)
@given(program=PROGRAMS)
@example(program=EVERYTHING)
def test_nothing_crosses_a_tenant_on_a_server(url: str, program: Program) -> None:
    assert crossing(lambda folder: on_a_server(url, folder), program) == []


class Merged:
    """A port to which all tenants are one."""

    def __init__(self, port: object) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._port, name)
        return lambda *args, **options: method(
            *map(merge, args), **{key: merge(value) for key, value in options.items()}
        )


def merge(value: Any) -> Any:
    """The value, with the same tenant wherever it names one."""
    if isinstance(value, str):
        return re.sub(r"(acme|rival)-\d+", "tenant", value)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{key: merge(item) for key, item in msgspec.structs.asdict(value).items()})
    if isinstance(value, dict):
        return {merge(key): merge(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(merge, value))
    return [merge(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("port", ["store", "blobs", "views", "limiter", "ledger", "vault"])
def test_a_port_that_does_not_tell_tenants_apart_is_found_out(port: str) -> None:
    @asynccontextmanager
    async def leaky(folder: Path) -> AsyncIterator[House]:
        async with in_memory(folder) as house:
            yield msgspec.structs.replace(house, **{port: Merged(getattr(house, port))})

    def is_found_out() -> bool:
        try:
            return crossing(leaky, EVERYTHING) != []
        except AssertionError:  # what the port itself promises does not hold any more
            return True

    assert is_found_out()


def test_every_method_of_a_port_that_knows_tenants_is_among_the_steps() -> None:
    """Left out are those that belong to the whole store and name no tenant."""
    used = inspect.getsource(House)
    of_all = {"head", "wait", "knocks", "workers", "retire", "vouch", "close", "position", "forget", "overdue"}
    for port in (EventStore, BlobStore, ViewStore, Limiter, Ledger, Vault):
        for name in vars(port):
            if name[0] != "_" and name not in of_all:
                assert f".{name}(" in used, f"{port.__name__}.{name}"
