"""Turns what is remembered into vectors, in the background, and what is asked for while somebody waits.

Nothing depends on it: what has no vector is found by its words. An embedder that fails is left alone for a while,
longer each time, and that it fails is there to be seen; no other takes its place, because its vectors would stand in
another space.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Literal

from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import EmbedderError, OstlerError, TextRefused, UsageError
from ostler.ports import Clock
from ostler.ports.memory import Embedder, Entry, MemoryIndex

BATCH = 64
"""Memories that are turned into vectors together."""
TOGETHER = 200
"""Scopes that are looked through together for what has no vector."""
QUERIES_KEPT = 256
QUERY_S = 5.0
"""How long somebody who recalls waits for the vector of what is asked."""
PAUSE_S, PAUSE_MAX_S = 1.0, 600.0
LOOK_S = 300.0
"""How often all scopes are looked through for what has no vector, however that came."""
REFUSED_MAX = 1000
"""Texts that the embedder refuses and that are passed over, until the process ends."""
SAMPLE = "Is anybody there?"
"""A text that no embedder refuses."""

Vector = Sequence[float]
Everywhere = Callable[[], Awaitable[Sequence[Scope]]]
"""All scopes that there are, as far as they are this process's business."""


class Embedding:
    """One embedder at work for one index. `trouble` is told once when it begins to fail."""

    def __init__(
        self,
        embedder: Embedder,
        index: MemoryIndex,
        clock: Clock,
        *,
        trouble: Callable[[OstlerError], None] = lambda error: None,
        pause_s: float = PAUSE_S,
    ) -> None:
        """After a failure it is left alone for `pause_s`, and twice as long after each further one."""
        self.trouble = trouble
        self.problem = ""
        """Why there are no vectors at the moment; empty if there are."""
        self.since_us: int | None = None
        """Since when it fails."""
        self._embedder = embedder
        self._index = index
        self._clock = clock
        self._pause_s = pause_s
        self._failures = 0
        self._again_us = 0
        self._queries: OrderedDict[bytes, Vector] = OrderedDict()
        self._refused: set[tuple[Scope, str]] = set()
        self._waiting: dict[Scope, None] = {}
        self._is_all_wanted = True
        self._kicked = asyncio.Event()
        self._filling = asyncio.Lock()

    @property
    def fingerprint(self) -> str:
        """The space of its vectors."""
        return self._embedder.fingerprint

    @property
    def kind(self) -> Literal["semantic", "lexical"]:
        return self._embedder.kind

    @property
    def is_resting(self) -> bool:
        """Whether it failed a moment ago and is not asked again yet."""
        return self._clock.now_us() < self._again_us

    async def query(self, text: str) -> Vector | None:
        """The vector of what is asked; None if there is none, and then `problem` says why."""
        name = sha256(text.encode("utf-8", "replace")).digest()
        if name in self._queries:
            self._queries.move_to_end(name)
            return self._queries[name]
        if self.is_resting:
            return None
        try:
            async with asyncio.timeout(QUERY_S):
                (vector,) = await self._embedder.embed([text], purpose="query")
        except TextRefused:
            return None
        except EmbedderError as error:
            self._failed(error)
            return None
        except TimeoutError:
            self._failed(EmbedderError(f"No vector within {QUERY_S:g} s."))
            return None
        self._works()
        self._queries[name] = vector
        if len(self._queries) > QUERIES_KEPT:
            self._queries.popitem(last=False)
        return vector

    async def documents(self, texts: Sequence[str]) -> list[Vector] | None:
        """The vectors of these texts, none of which is kept; None if there are none now."""
        if self.is_resting:
            return None
        try:
            vectors = await self._embedder.embed(texts)
        except EmbedderError as error:
            if not isinstance(error, TextRefused):
                self._failed(error)
            return None
        self._works()
        return vectors

    async def fill(self, scopes: Sequence[Scope], limit: int = BATCH) -> int:
        """Turn up to `limit` memories of these scopes that have no vector of this embedder into vectors, the newest
        first. Returns how many; 0 while the embedder fails or rests, and where nothing is left.
        """
        done = 0
        async with self._filling:
            while done < limit and not self.is_resting:
                entries = await self._without(scopes, min(BATCH, limit - done))
                if not entries:
                    break
                try:
                    done += await self._embed(entries)
                except (EmbedderError, UsageError) as error:
                    self._failed(error)
        return done

    def kick(self, *scopes: Scope) -> None:
        """Something was remembered in these scopes (none: who knows where): see to it soon."""
        self._waiting.update(dict.fromkeys(scopes))
        self._is_all_wanted = self._is_all_wanted or not scopes
        self._kicked.set()

    async def run(self, everywhere: Everywhere) -> None:
        """Fill what lacks vectors, for ever: scopes that were kicked at once, and all of them now and then."""
        while True:
            try:
                await self._go(everywhere)
            except OstlerError as error:
                self.trouble(error)
            except Exception as error:
                self.trouble(OstlerError(f"A defect of Ostler: {type(error).__name__}: {error}"))
            rest_s = (self._again_us - self._clock.now_us()) / 1e6
            if rest_s > 0:
                await asyncio.sleep(rest_s)
                self._is_all_wanted = True
            else:
                await self._quiet()

    async def flush(self) -> None:
        """Fill what was kicked, many scopes together and in turn with others. If it is broken off, they still wait."""
        waiting, self._waiting = list(self._waiting), {}
        left = [waiting[start : start + TOGETHER] for start in range(0, len(waiting), TOGETHER)]
        try:
            while left and not self.is_resting:
                left = [scopes for scopes in left if await self.fill(scopes)]
        finally:
            self._waiting.update(dict.fromkeys(scope for scopes in left for scope in scopes))

    async def close(self) -> None:
        await self._embedder.close()

    async def _go(self, everywhere: Everywhere) -> None:
        """Fill the scopes that were kicked, or all, until nothing is left or it fails."""
        self._kicked.clear()
        if self._is_all_wanted:
            self._waiting.update(dict.fromkeys(await everywhere()))
            self._is_all_wanted = False
        await self.flush()

    async def _quiet(self) -> None:
        """Wait until somebody kicks, or it is time to look everywhere."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._kicked.wait()
        except TimeoutError:
            self._is_all_wanted = True

    async def _without(self, scopes: Sequence[Scope], limit: int) -> list[Entry]:
        """The newest without a vector, but for those that the embedder has refused."""
        found = await self._index.unembedded(scopes, self.fingerprint, limit=limit + len(self._refused))
        return [entry for entry in found if (entry.scope, entry.memory.id) not in self._refused][:limit]

    async def _embed(self, entries: Sequence[Entry]) -> int:
        """Make and keep the vectors of these. What is refused alone is passed over from now on."""
        try:
            vectors = await self._embedder.embed([text_of(entry) for entry in entries])
        except TextRefused as error:
            if len(entries) > 1:
                middle = len(entries) // 2
                return await self._embed(entries[:middle]) + await self._embed(entries[middle:])
            await self._refuse(entries[0], error)
            return 0
        await self._index.embed(
            self.fingerprint,
            [(entry.scope, entry.memory.id, vector) for entry, vector in zip(entries, vectors, strict=True)],
        )
        self._works()
        return len(entries)

    async def _refuse(self, entry: Entry, error: TextRefused) -> None:
        """Pass this one over, if it is the text: an embedder that refuses a harmless one refuses everything."""
        try:
            await self._embedder.embed([SAMPLE])
        except TextRefused as again:
            raise EmbedderError(again.message, hint=again.hint) from error
        if len(self._refused) >= REFUSED_MAX:
            raise EmbedderError(f"More than {REFUSED_MAX} texts are refused: {error.message}") from error
        self._refused.add((entry.scope, entry.memory.id))

    def _works(self) -> None:
        self.problem, self.since_us, self._failures, self._again_us = "", None, 0, 0

    def _failed(self, error: OstlerError) -> None:
        now_us = self._clock.now_us()
        pause_s = min(PAUSE_MAX_S, self._pause_s * 2.0 ** min(self._failures, 32))
        asked = error.facts.get("retry_after_s")
        self._failures += 1
        self._again_us = now_us + int(max(pause_s, float(asked or 0)) * 1e6)
        self.problem = error.message
        if self.since_us is None:
            self.since_us = now_us
            said = f"Memories get no vectors, and are found by their words only: {error.message}"
            self.trouble(EmbedderError(said, hint=error.hint))


def text_of(entry: Entry) -> str:
    """What the vector of a memory stands for: its key says what its text is about."""
    memory = entry.memory
    return f"{memory.key}: {memory.text}" if memory.key else memory.text
