"""Which model drives a session, and why: the first of those that the user named or the environment offers."""

from collections.abc import Callable
from typing import Any

import msgspec

from ostler.app.cards import Cards
from ostler.app.plugins import RECORDINGS, STRATEGIES, part
from ostler.app.providers import make, ollama_url, parse
from ostler.app.settings import Settings
from ostler.app.strategies import ROUTE, ModelObject, Strategy, strategy_of, with_names
from ostler.domain.model import ModelRef
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import Needs, StrategySpec, misfit
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, ProviderError
from ostler.ports import ModelProvider

ANTHROPIC_DEFAULT = "claude-sonnet-5-5"
GOOGLE_DEFAULT = "gemini-3.8-flash"
OPENAI_DEFAULT = "gpt-6.1-terra"

NO_MODEL_HINT = (
    "Set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or OPENAI_BASE_URL, start Ollama, or name a model: "
    "--model PROVIDER:NAME (in Python: model=…)."
)


Wanted = str | ModelRef | ModelObject | Strategy
"""How models are named: one, or several and how one of them is chosen."""


class Choice(msgspec.Struct, frozen=True):
    """A model, and in a few words why this one; or the first of several `candidates`, and how one is chosen."""

    model: ModelRef
    because: str
    strategy: StrategySpec | None = None
    candidates: tuple[Card, ...] = ()


class Models:
    """Chooses models and reaches them. Providers are made when first asked for, one per dialect and address."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers: dict[tuple[str, str, str, str | None], ModelProvider] = {}
        self._own: dict[tuple[str, str, str], ModelProvider] = {}
        regions = {name: target.table.region for name, target in settings.providers.items() if target.table.region}
        self.cards = Cards(settings.models, settings.prices, regions, settings.newer_prices)

    def add(self, ref: ModelRef, provider: ModelProvider) -> None:
        """Let an object of the user's own answer for this model. Raises `DefinitionInvalid` if another one does."""
        if self._own.setdefault((ref.kind, ref.provider, ref.name), provider) is not provider:
            name = f"{ref.provider}:{ref.name}"
            raise DefinitionInvalid("models", [(name, "is the name of more than one model object; give each its own")])

    async def choose(self, named: Wanted | None, agent: str, agents_own: Wanted | None = None) -> Choice:
        """`named` by the caller, then the agent's own, the project's, the environment's, Ollama's, the built-in one.

        Raises `ConfigurationError` if none of them is there.
        """
        keys = self._settings.keys
        for name, because in (
            (named, "named by the caller"),
            (agents_own, f"named by the agent {agent}"),
            (self._settings.model, "named in ostler.toml"),
        ):
            if name:
                return self._wanted(name, because)
        if self._settings.replay is not None:
            first: Any = self.provider(ModelRef("recorded", "recorded", ""))
            return self._reachable(self.named(first.models[0]), "OSTLER_REPLAY is set")
        if keys.anthropic_api_key:
            return self._reachable(self.named(f"anthropic:{ANTHROPIC_DEFAULT}"), "ANTHROPIC_API_KEY is set")
        if keys.openai_api_key and not keys.openai_base_url:
            return self._reachable(self.named(f"openai:{OPENAI_DEFAULT}"), "OPENAI_API_KEY is set")
        if keys.openai_base_url:
            return await self._first_of("openai", keys.openai_base_url, "OPENAI_BASE_URL is set")
        if keys.google_api_key:
            return self._reachable(self.named(f"google:{GOOGLE_DEFAULT}"), "GEMINI_API_KEY is set")
        try:
            return await self._first_of("ollama", ollama_url(keys), f"Ollama answers at {keys.ollama_host}")
        except (ProviderError, ConfigurationError):
            return self._builtin(agent)

    def _wanted(self, wanted: Wanted, because: str) -> Choice:
        """What somebody named. Raises `ConfigurationError`, `DefinitionInvalid`."""
        match wanted:
            case Strategy():
                return self._among(wanted, because)
            case ModelRef():
                return Choice(self.cards.filled(wanted), because)
            case str() if wanted.startswith(ROUTE):
                return self._among(self._strategy(wanted.removeprefix(ROUTE)), f"{wanted}, {because}")
            case str():
                return self._reachable(self.named(wanted), because)
            case _:
                return Choice(self.cards.filled(wanted.ref), "an object of the agent's")

    def _strategy(self, name: str) -> Strategy:
        tables = self._settings.strategies
        if name not in tables:
            near = did_you_mean(name, list(tables))
            hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(tables) or 'none'}."
            raise ConfigurationError(f"There is no strategy {name!r}; [strategies.{name}] would be it.", hint=hint)
        return strategy_of(tables[name])

    def _among(self, strategy: Strategy, because: str) -> Choice:
        """Several models, of which one at least fits, or the only one. Raises `DefinitionInvalid` if none does."""
        refs = [self._wanted(model, because).model for model in strategy.models]
        cards = tuple([self.cards.of(ref).card for ref in refs])
        spec = with_names(strategy, [card.name for card in cards])
        misfits = [(card.name, misfit(spec, card, Needs())) for card in cards]
        fitting = [card for card, (_, reason) in zip(cards, misfits, strict=True) if reason is None]
        if not fitting:
            raise DefinitionInvalid(repr(strategy), [(name, reason or "") for name, reason in misfits])
        if len(cards) == 1:
            return Choice(cards[0].model, because)
        return Choice(cards[0].model, f"one of {len(cards)} ({spec.kind}), {because}", spec, cards)

    def named(self, name: str) -> ModelRef:
        """The model that `PROVIDER:NAME` names; a recorded one where a recording stands for all. Raises
        `ConfigurationError`.
        """
        ref = parse(name, self._settings.keys, self._settings.providers)
        if ref.kind == "live" and self._settings.replay is not None:
            return msgspec.structs.replace(ref, kind="recorded")
        return ref

    async def _first_of(self, provider_name: str, base_url: str, because: str) -> Choice:
        provider: Any = self.provider(ModelRef("live", provider_name, "", base_url=base_url, dialect="openai-chat"))
        names = await provider.list_models()
        if not names:
            raise ConfigurationError(f"The server at {base_url} offers no model.", hint=NO_MODEL_HINT)
        return self._reachable(self.named(f"{provider_name}:{names[0]}"), because)

    def _builtin(self, agent: str) -> Choice:
        if agent not in STRATEGIES:
            raise ConfigurationError(f"There is no model for the agent {agent!r}.", hint=NO_MODEL_HINT)
        return Choice(ModelRef("strategy", "strategy", agent), "no model is configured; built-in code plays it")

    def _reachable(self, ref: ModelRef, because: str) -> Choice:
        """The choice, priced if its price is known; that it can be reached from here is found out before a session."""
        if ref.kind == "strategy" and ref.name not in STRATEGIES:
            near = did_you_mean(ref.name, list(STRATEGIES))
            hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(STRATEGIES)}."
            raise ConfigurationError(f"There is no strategy {ref.name!r}.", hint=hint)
        self.provider(ref)
        return Choice(self.cards.filled(ref), because)

    def provider(self, ref: ModelRef) -> ModelProvider:
        """The provider that reaches `ref`. Raises `ConfigurationError` if it cannot be reached from here."""
        own = self._own.get((ref.kind, ref.provider, ref.name))
        if own is not None:
            return own
        is_live = ref.kind == "live"
        key = (ref.kind, ref.provider, ref.dialect, ref.base_url) if is_live else (ref.kind, "", "", None)
        if key not in self._providers:
            self._providers[key] = self._make(ref)
        return self._providers[key]

    def _make(self, ref: ModelRef) -> ModelProvider:
        """Whatever reaches it, or the recording that stands for it, or both: what reaches it, recorded."""
        known = self._settings
        if ref.kind == "recorded":
            return self._replayed(ref)
        if ref.kind == "live" and known.replay is not None:
            raise ConfigurationError(
                f"OSTLER_REPLAY is set, and the model {ref} is a live one.",
                hint="Unset OSTLER_REPLAY to go on with this session, or start a new one.",
            )
        provider = make(ref, known.keys, known.providers)
        if ref.kind == "live" and known.record is not None:
            recording: Callable[..., ModelProvider] = part(RECORDINGS["record"])
            return recording(provider, known.record)
        return provider

    def _replayed(self, ref: ModelRef) -> ModelProvider:
        if self._settings.replay is None:
            raise ConfigurationError(
                f"The model {ref} answers from a recording.", hint="Set OSTLER_REPLAY to the file of the recording."
            )
        recorded: Callable[..., ModelProvider] = part(RECORDINGS["replay"])
        return recorded(self._settings.replay)

    async def close(self) -> None:
        for provider in (*self._providers.values(), *self._own.values()):
            await provider.close()
