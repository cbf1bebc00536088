"""Circuit breakers that all workers share, on a Redis server."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ostler.adapters.breakers.memory import MemoryBreakers
from ostler.domain.resilience import breaker
from ostler.domain.resilience.breaker import CLOSED, Admitted, Breaker, Change, Key, Open, Outcome, State
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import BreakersUnshared, OstlerError

Answer = TypeVar("Answer")
Step = Callable[[State], tuple[State, Answer]]

SWAP = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if (now or '') ~= ARGV[2] then return now or '' end
if ARGV[3] ~= ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end
return false
"""
"""Puts the third argument in place of the second, or tells what is there instead. What is decided is decided here, in
Python, by the one state machine; the server only sees to it that nobody comes in between.
"""

KEPT_MS = 86_400_000
"""How long a tenant's breakers are kept after the last change, beyond the longest wait."""
TRIES_MAX = 100
"""More than that many others in a row who were faster are taken for a server that does not work."""
KNOWN_MAX = 10_000
CONNECTIONS_MAX = 32


class RedisBreakers:
    """`Breakers` in one hash for each tenant, with a field for each provider and tool.

    A call takes one round trip to be admitted and one to be reported, more where others were faster. While the server
    does not answer in time, this process goes on with breakers of its own, tells `trouble`, and tries again every
    `again_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "ostler:breakers:",
        password: str | None = None,
        trouble: Callable[[OstlerError], None] = lambda error: None,
        timeout_s: float = 1.0,
        again_s: float = 5.0,
    ) -> None:
        """`password` wins over the URL's."""
        self._local = MemoryBreakers()
        self._prefix = prefix
        self._trouble = trouble
        self._timeout_s = timeout_s
        self._again_s = again_s
        self._silent_until_s = 0.0
        self._known: dict[Key, bytes] = {}
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._where = urlsplit(url).netloc.rpartition("@")[2]
        given: dict[str, Any] = {"password": password} if password else {}
        pool = BlockingConnectionPool.from_url(
            url,
            **given,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        self._client = Redis.from_pool(pool)
        self._swap = self._client.register_script(SWAP)

    async def admit(self, key: Key, settings: Breaker, *, now_us: int) -> Admitted | Open:
        def step(state: State) -> tuple[State, Admitted | Open]:
            return breaker.admit(state, key, settings, now_us)

        answer = await self._shared(key, step, now_us)
        return await self._local.admit(key, settings, now_us=now_us) if answer is None else answer[0]

    async def report(
        self, admitted: Admitted, settings: Breaker, outcome: Outcome, *, now_us: int, because: str = ""
    ) -> Change | None:
        def step(state: State) -> tuple[State, Change | None]:
            return breaker.report(state, admitted, settings, outcome, now_us, because)

        answer = await self._shared(admitted.key, step, now_us)
        if answer is None:
            return await self._local.report(admitted, settings, outcome, now_us=now_us, because=because)
        return answer[0]

    async def look(self, key: Key, *, now_us: int) -> Open | None:
        def step(state: State) -> tuple[State, Open | None]:
            return state, breaker.look(state, now_us)

        answer = await self._shared(key, step, now_us)
        return await self._local.look(key, now_us=now_us) if answer is None else answer[0]

    async def reset(self, key: Key) -> Change | None:
        def step(state: State) -> tuple[State, Change | None]:
            return breaker.reset(state, key)

        own = await self._local.reset(key)
        answer = await self._shared(key, step, 0)
        return own if answer is None else answer[0] or own

    async def states(self, tenant: str) -> dict[Key, State]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(tenant)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _read(self, tenant: str) -> dict[Key, State]:
        """All that is kept for a tenant, or (`*`) for all."""
        names = [f"{self._prefix}{tenant}".encode()]
        if tenant == EVERYONE:
            names = [name async for name in self._client.scan_iter(match=f"{_literal(self._prefix)}*", count=1000)]
        found = {}
        for name in names:
            kept: Any = await self._client.hgetall(name.decode())
            for field, data in kept.items():
                kind, _, called = field.decode().partition(":")
                found[Key(name.decode().removeprefix(self._prefix), kind, called)] = _decoded(data)
        return found

    async def _shared(self, key: Key, step: Step[Answer], now_us: int) -> tuple[Answer] | None:
        """Take one step of a breaker on the server; None if it does not answer."""
        before = _decoded(self._known.get(key, b""))
        in_turn: AbstractAsyncContextManager[Any] = nullcontext()
        if step(before)[0] is not before:  # of those that change something, only one at a time would get through
            in_turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(self._timeout_s), in_turn:
                return None if self._is_silent else (await self._take(key, step, now_us),)
        except (RedisError, OSError, TimeoutError) as error:
            if not self._is_silent:
                self._silent_until_s = time.monotonic() + self._again_s
                self._trouble(self._unreachable(error))
            return None

    @property
    def _is_silent(self) -> bool:
        return time.monotonic() < self._silent_until_s

    async def _take(self, key: Key, step: Step[Answer], now_us: int) -> Answer:
        known = self._known.get(key, b"")
        for _ in range(TRIES_MAX):
            before = _decoded(known)
            after, answer = step(before)
            data = known if after is before else msgspec.json.encode(after)
            kept_ms = KEPT_MS + max(0, (after.until_us or 0) - now_us) // 1000
            there = await self._swap(
                keys=[f"{self._prefix}{key.tenant}"], args=[f"{key.kind}:{key.name}", known, data, kept_ms]
            )
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[key] = known = data if there is None else there
            if there is None:
                return answer
        raise TimeoutError("others were faster, again and again")

    def _unreachable(self, error: Exception) -> OstlerError:
        said = str(error).strip().rstrip(".") or f"nothing within {self._timeout_s:g} s"
        return BreakersUnshared(
            f"Redis at {self._where}, which keeps the circuit breakers, does not answer: {said[:300]}.",
            hint="Each worker goes on with breakers of its own. Check `redis` in [breakers], and that the server runs.",
        )


def _decoded(data: bytes) -> State:
    """What is there; closed, if that is nothing that can be read: no call is to fail for it."""
    try:
        return msgspec.json.decode(data, type=State) if data else CLOSED
    except (msgspec.DecodeError, UnicodeDecodeError):
        return CLOSED


def _literal(text: str) -> str:
    """As a pattern that only this text matches."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^-" else letter for letter in text)
