"""Which model drives a session, and why: the first of those that the user named or the environment offers."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from ostler.app.plugins import PROVIDERS, STRATEGIES, part
from ostler.app.settings import Keys, Settings
from ostler.domain.model import ModelRef
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, ProviderError
from ostler.ports import ModelProvider

ANTHROPIC_DEFAULT = "claude-sonnet-5-5"
OPENAI_DEFAULT = "gpt-6.1-terra"

NO_MODEL_HINT = (
    "Set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENAI_BASE_URL, start Ollama, or name a model: "
    "--model PROVIDER:NAME (in Python: model=…)."
)


class ModelObject(ModelProvider, Protocol):
    """A model that is an object of the user's own program, and says which one it is."""

    ref: ModelRef


class Choice(msgspec.Struct, frozen=True):
    """A model, and in a few words why this one."""

    model: ModelRef
    because: str


class Models:
    """Chooses models and reaches them. Providers are made when first asked for, one per dialect and address."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers: dict[tuple[str, str | None], ModelProvider] = {}
        self._own: dict[tuple[str, str], ModelProvider] = {}

    def add(self, ref: ModelRef, provider: ModelProvider) -> None:
        """Let an object of the user's own answer for this model. Raises `DefinitionInvalid` if another one does."""
        if self._own.setdefault((ref.provider, ref.name), provider) is not provider:
            name = f"{ref.provider}:{ref.name}"
            raise DefinitionInvalid("models", [(name, "is the name of more than one model object; give each its own")])

    async def choose(self, named: str | None, agent: str, agents_own: str | None = None) -> Choice:
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
                return self._reachable(parse(name, keys), because)
        if keys.anthropic_api_key:
            return self._reachable(_live("anthropic", ANTHROPIC_DEFAULT), "ANTHROPIC_API_KEY is set")
        if keys.openai_api_key and not keys.openai_base_url:
            return self._reachable(_live("openai", OPENAI_DEFAULT), "OPENAI_API_KEY is set")
        if keys.openai_base_url:
            return await self._first_of(keys.openai_base_url, "OPENAI_BASE_URL is set")
        local = f"{keys.ollama_host.rstrip('/')}/v1"
        try:
            return await self._first_of(local, f"Ollama answers at {keys.ollama_host}")
        except (ProviderError, ConfigurationError):
            return self._builtin(agent)

    async def _first_of(self, base_url: str, because: str) -> Choice:
        provider: Any = self.provider(ModelRef("live", "openai", "", base_url=base_url))
        names = await provider.list_models()
        if not names:
            raise ConfigurationError(f"The server at {base_url} offers no model.", hint=NO_MODEL_HINT)
        return self._reachable(ModelRef("live", "openai", names[0], base_url=base_url), because)

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
        price = self._settings.prices.get(f"{ref.provider}:{ref.name}")
        return Choice(msgspec.structs.replace(ref, price=price) if price else ref, because)

    def provider(self, ref: ModelRef) -> ModelProvider:
        """The provider that reaches `ref`. Raises `ConfigurationError` if it cannot be reached from here."""
        own = self._own.get((ref.provider, ref.name))
        if own is not None:
            return own
        key = (ref.provider, ref.base_url)
        if key not in self._providers:
            self._providers[key] = self._make(ref)
        return self._providers[key]

    def _make(self, ref: ModelRef) -> ModelProvider:
        keys = self._settings.keys
        if ref.provider not in PROVIDERS:
            raise ConfigurationError(
                f"No provider {ref.provider!r} is known here for the model {ref.name!r}.",
                hint="A session that was started with a model object of Python code needs that object again.",
            )
        if ref.provider == "strategy":
            make: Callable[..., ModelProvider] = part(PROVIDERS["strategy"], extra="http")
            return make({name: part(path, extra="http") for name, path in STRATEGIES.items()})
        make = part(PROVIDERS[ref.provider], extra="http")
        if ref.provider == "anthropic":
            if not keys.anthropic_api_key:
                raise ConfigurationError("No key for Anthropic.", hint="Set ANTHROPIC_API_KEY.")
            options = {"base_url": keys.anthropic_base_url} if keys.anthropic_base_url else {}
            return make(api_key=keys.anthropic_api_key, **options)
        if ref.base_url is None and not keys.openai_api_key:
            raise ConfigurationError("No key for OpenAI.", hint="Set OPENAI_API_KEY.")
        options = {"base_url": ref.base_url} if ref.base_url else {}
        is_meant = ref.base_url in (None, keys.openai_base_url)  # a key is for one server, and told to no other
        return make(api_key=keys.openai_api_key if is_meant else None, **options)

    async def close(self) -> None:
        for provider in (*self._providers.values(), *self._own.values()):
            await provider.close()


def parse(name: str, keys: Keys) -> ModelRef:
    """`anthropic:NAME`, `openai:NAME`, `ollama:NAME` or `strategy:NAME`. Raises `ConfigurationError`."""
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise ConfigurationError(
            f"{name!r} does not name a model.",
            hint="Write PROVIDER:NAME, such as anthropic:claude-… or ollama:llama3.2.",
        )
    match provider:
        case "strategy":
            return ModelRef("strategy", "strategy", model)
        case "anthropic":
            return _live("anthropic", model)
        case "openai":
            return ModelRef("live", "openai", model, base_url=keys.openai_base_url)
        case "ollama":
            return ModelRef("live", "openai", model, base_url=f"{keys.ollama_host.rstrip('/')}/v1")
        case _:
            raise ConfigurationError(
                f"No provider {provider!r} is known.", hint="Providers are: anthropic, openai, ollama, strategy."
            )


def _live(provider: str, name: str) -> ModelRef:
    return ModelRef("live", provider, name)
