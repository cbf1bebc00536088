"""Finds out about the candidates of a session what a choice among them depends on."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from ostler.domain.resilience.breaker import Key
from ostler.domain.session.choosing import needs_of
from ostler.domain.session.events import CallExamined
from ostler.domain.session.state import State
from ostler.domain.strategy.adaptive import REACH, Outcomes, discounted, draws
from ostler.domain.strategy.choice import HALF_LIFE_S, ModelWanted, Routing, StrategySpec, Unavailable
from ostler.kernel.errors import DefinitionInvalid, StoreError
from ostler.kernel.event import timestamp
from ostler.ports import Clock, Entropy, ViewStore
from ostler.runtime.hooks import Threads
from ostler.views.outcomes import HOUR_US, OUTCOMES, SUMS_FIRST, first_key, place

CHOOSER_TIMEOUT_S = 5.0
KEPT_S = 5.0
"""How long outcomes that were read are used before they are read again."""
PAGE = 1_000
CHANCE_BYTES = 8

OpenUntil = Callable[[Key], Awaitable[int | None]]
"""Until when the breaker of a provider lets nothing pass, in microseconds since 1970; None if it lets calls begin."""


class Chooser:
    """A function of the user's own that says which candidate is asked, under a name that strategies give."""

    def __init__(self, function: Callable[[ModelWanted], Any], name: str, timeout_s: float) -> None:
        """Use the decorator `chooser`. Raises `DefinitionInvalid`."""
        self.function = function
        self.name = name
        self.timeout_s = timeout_s
        if not name.replace("-", "_").replace(".", "_").isidentifier():
            raise DefinitionInvalid(f"chooser {name!r}", [("name", "must be letters, digits, '_', '.' or '-'")])

    def __call__(self, wanted: ModelWanted) -> Any:
        return self.function(wanted)

    def __repr__(self) -> str:
        return f"<chooser {self.name}>"


def chooser(*, name: str = "", timeout_s: float = CHOOSER_TIMEOUT_S) -> Callable[[Callable[..., Any]], Chooser]:
    """Make a function one that chooses models: it takes a `ModelWanted`, and returns the name of a candidate.

    A plain function runs in a thread. Whatever goes wrong (an exception, no answer within `timeout_s`, a name that is
    no candidate's) leaves the choice to the order of the candidates, and is recorded. Raises `DefinitionInvalid`.
    """

    def decorate(function: Callable[..., Any]) -> Chooser:
        return Chooser(function, name or getattr(function, "__name__", ""), timeout_s)

    return decorate


class Choosers:
    """The functions that this process knows."""

    def __init__(self, *, in_thread: Threads) -> None:
        self._known: dict[str, Chooser] = {}
        self._in_thread = in_thread

    def add(self, one: Chooser) -> None:
        """Know one more. Raises `DefinitionInvalid` if another has its name."""
        if self._known.setdefault(one.name, one) is not one:
            raise DefinitionInvalid("choosers", [(one.name, "is the name of more than one chooser")])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._known))

    async def ask(self, name: str, wanted: ModelWanted) -> tuple[str | None, str]:
        """What the function of this name says, or why it says nothing."""
        known = self._known.get(name)
        if known is None:
            return None, "is not known to this process"
        try:
            async with asyncio.timeout(known.timeout_s):
                answer = await self._call(known, wanted)
        except TimeoutError:
            return None, f"has not answered within {known.timeout_s:g} s"
        except Exception as error:
            return None, f"failed ({type(error).__name__})"
        return (answer, "") if isinstance(answer, str) else (None, f"returned {type(answer).__name__}, not a name")

    async def _call(self, known: Chooser, wanted: ModelWanted) -> Any:
        if inspect.iscoroutinefunction(known.function):
            return await known.function(wanted)
        return await self._in_thread(lambda: known.function(wanted))


class Learned:
    """What came of the calls of models lately, read from the view `outcomes` every few seconds."""

    def __init__(self, views: ViewStore, clock: Clock) -> None:
        self._views = views
        self._clock = clock
        self._kept: dict[tuple[str, str, float], tuple[int, Mapping[str, Outcomes]]] = {}

    async def of(self, tenant: str, agent: str, half_life_s: float) -> Mapping[str, Outcomes]:
        """The outcomes for an agent by model, discounted by their age. Empty if the view cannot be read now."""
        now_us, which = self._clock.now_us(), (tenant, agent, half_life_s)
        kept = self._kept.get(which)
        if kept is not None and now_us - kept[0] < KEPT_S * 1e6:
            return kept[1]
        try:
            found = await self._read(tenant, agent, half_life_s, now_us)
        except StoreError:
            found = {} if kept is None else kept[1]
        self._kept = {one: held for one, held in self._kept.items() if now_us - held[0] < KEPT_S * 1e6}
        self._kept[which] = (now_us, found)
        return found

    async def _read(self, tenant: str, agent: str, half_life_s: float, now_us: int) -> Mapping[str, Outcomes]:
        first = (now_us - int(REACH * half_life_s * 1e6)) // HOUR_US
        aged: dict[str, list[tuple[float, Outcomes]]] = {}
        after, is_more = first_key(agent, first), True
        while is_more:
            rows = await self._views.page(OUTCOMES.id, tenant, after=after, limit=PAGE)
            own = [(place(key), body) for key, body in rows if key.startswith(SUMS_FIRST) and place(key)[0] == agent]
            for (_, hour, model), body in own:
                age_s = (now_us - hour * HOUR_US - HOUR_US // 2) / 1e6
                aged.setdefault(model, []).append((age_s, OUTCOMES.sums.unpack(body)))
            is_more = len(own) == PAGE
            after = rows[-1][0] if rows else after
        return {model: discounted(one, half_life_s) for model, one in aged.items()}


class Router:
    """Asks breakers, earlier outcomes, chance and the user's own function about the candidates of a session."""

    def __init__(
        self,
        clock: Clock,
        entropy: Entropy,
        *,
        choosers: Choosers | None = None,
        learned: Learned | None = None,
        open_until: OpenUntil | None = None,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._choosers = choosers
        self._learned = learned
        self._open_until = open_until

    async def route(self, state: State, found: CallExamined) -> Routing:
        """What is found out for the next request; `found` is what is known of it already."""
        strategy = state.strategy or StrategySpec()
        now_us = self._clock.now_us()
        away = await self._unavailable(state)
        routing = Routing(now_us, away)
        if strategy.kind == "adaptive":
            chance = self._entropy.chance(CHANCE_BYTES)
            known = await self._outcomes(state, strategy.half_life_s)
            names = [card.name for card in state.candidates]
            return msgspec.structs.replace(routing, scores=draws(known, names, chance), chance=chance.hex())
        if strategy.kind == "fastest":
            known = await self._outcomes(state, HALF_LIFE_S)
            times = {card.name: known[card.name].latency_s for card in state.candidates if card.name in known}
            return msgspec.structs.replace(
                routing, scores={name: round(time, 3) for name, time in times.items() if time is not None}
            )
        if strategy.kind == "function":
            answer, fault = await self._ask(state, strategy, found, away)
            return msgspec.structs.replace(routing, answer=answer, fault=fault)
        return routing

    async def _unavailable(self, state: State) -> tuple[Unavailable, ...]:
        """The candidates whose provider is left alone for a while, because it failed too often."""
        if self._open_until is None:
            return ()
        found = []
        for card in state.candidates:
            until_us = await self._open_until(Key(state.by.tenant, "provider", card.model.provider))
            if until_us is not None:
                found.append(
                    Unavailable(card.name, f"its breaker is open, at least until {timestamp(until_us)}", until_us)
                )
        return tuple(found)

    async def _outcomes(self, state: State, half_life_s: float) -> Mapping[str, Outcomes]:
        if self._learned is None:
            return {}
        return await self._learned.of(state.by.tenant, state.agent.name, half_life_s)

    async def _ask(
        self, state: State, strategy: StrategySpec, found: CallExamined, away: tuple[Unavailable, ...]
    ) -> tuple[str | None, str]:
        if self._choosers is None:
            return None, "is not known to this process"
        needs = needs_of(state, found)
        wanted = ModelWanted(
            tenant=state.by.tenant,
            session=state.session,
            agent=state.agent.name,
            goal=state.goal,
            step=state.steps + 1,
            candidates=state.candidates,
            unavailable=away,
            needs=needs,
            cost_microusd=state.cost_microusd,
        )
        return await self._choosers.ask(strategy.function, wanted)
