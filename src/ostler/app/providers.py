"""Where models answer: what a name such as `ollama:llama3.2` stands for, and the provider that reaches it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from ostler.app.definition import Problem
from ostler.app.plugins import PROVIDERS, STRATEGIES, part
from ostler.domain.model import ModelRef
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import ConfigurationError
from ostler.ports import ModelProvider

Dialect = Literal["anthropic", "google", "openai-chat", "openai-responses"]

OPENAI_URL = "https://api.openai.com/v1"
_OPENAI_HINT = "Set OPENAI_API_KEY; unset OPENAI_BASE_URL, which says what server it is for."
BUILT_IN = ("anthropic", "google", "ollama", "openai", "openai-chat", "openai-responses", "strategy")
_RESERVED = (*BUILT_IN, "recorded", "route", "scripted")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Keys(msgspec.Struct, frozen=True):
    """Credentials and addresses of providers. Never printed, never stored."""

    anthropic_api_key: str | None = None
    anthropic_base_url: str | None = None
    openai_api_key: str | None = None
    openai_base_url: str | None = None
    ollama_host: str = "http://127.0.0.1:11434"
    google_api_key: str | None = None
    google_base_url: str | None = None

    def __repr__(self) -> str:
        return "Keys(…)"


class ProviderTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[providers.NAME]`: a server whose models are called `NAME:MODEL`, spoken to in `dialect`.

    `key_env` names the environment variable with its key, which is told to this server only; without it, there is
    none. `region` is where the server stands, for strategies that must know it.
    """

    base_url: str
    dialect: Dialect = "openai-chat"
    key_env: str | None = None
    region: str | None = None


class ProviderTarget(msgspec.Struct, frozen=True):
    """A server of the user's own as it can be reached. `key` is what `key_env` holds now; it is never printed."""

    table: ProviderTable
    key: str | None = None

    def __repr__(self) -> str:
        return f"ProviderTarget({self.table!r})"


Targets = Mapping[str, ProviderTarget]


def problems_in_providers(tables: Mapping[str, ProviderTable]) -> list[Problem]:
    """Everything that is wrong with the tables, by its place in the file."""
    problems = []
    for name, table in tables.items():
        at = f"providers.{name}"
        if name in _RESERVED:
            problems.append((at, f"{name} is a provider that Ostler knows by itself; give this one another name"))
        elif not _NAME.fullmatch(name):
            problems.append((at, "a name has up to 32 small letters, digits, - and _, and begins with a letter"))
        if not _is_http(table.base_url):
            problems.append((f"{at}.base_url", "is no HTTP address; it looks like https://models.example.com/v1"))
        elif _holds_more(table.base_url):
            problems.append((f"{at}.base_url", "holds more than an address; name the variable with the key in key_env"))
        if table.key_env is not None and not _VARIABLE.fullmatch(table.key_env):
            problems.append((f"{at}.key_env", "is not the name of an environment variable"))
    return problems


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _holds_more(url: str) -> bool:
    """Whether there is more than an address in it, which may be a credential."""
    parts = urlsplit(url)
    return bool(parts.username or parts.password or parts.query)


def told(url: str, variable: str) -> str:
    """The address as sessions keep it in their log. Raises `ConfigurationError` if that would not be fit for it."""
    if not _is_http(url):
        raise ConfigurationError(f"{variable} is no HTTP address.", hint="It looks like http://localhost:8000/v1.")
    if _holds_more(url):
        raise ConfigurationError(
            f"{variable} holds more than an address, and would stand in the log of every session.",
            hint="Name the server in ostler.toml, [providers.NAME], and the variable with its key there in key_env.",
        )
    return url


def parse(name: str, keys: Keys, targets: Targets | None = None) -> ModelRef:
    """The model that `PROVIDER:NAME` names. Raises `ConfigurationError`."""
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise ConfigurationError(
            f"{name!r} does not name a model.",
            hint="Write PROVIDER:NAME, such as anthropic:claude-… or ollama:llama3.2.",
        )
    match provider:
        case "strategy":
            return ModelRef("strategy", "strategy", model)
        case "anthropic" | "google":
            return ModelRef("live", provider, model)
        case "openai" | "openai-chat" | "openai-responses":
            url = told(keys.openai_base_url, "OPENAI_BASE_URL") if keys.openai_base_url else None
            dialect = "openai-responses" if url in (None, OPENAI_URL) else "openai-chat"
            return ModelRef(
                "live", "openai", model, base_url=url, dialect=dialect if provider == "openai" else provider
            )
        case "ollama":
            return ModelRef("live", "ollama", model, base_url=ollama_url(keys), dialect="openai-chat")
        case _:
            target = (targets or {}).get(provider)
            if target is None:
                raise ConfigurationError(f"No provider {provider!r} is known.", hint=_known(provider, targets or {}))
            return ModelRef("live", provider, model, base_url=target.table.base_url, dialect=target.table.dialect)


def _known(provider: str, targets: Targets) -> str:
    names = [*BUILT_IN, *sorted(targets)]
    near = did_you_mean(provider, names)
    hint = f"Did you mean {near!r}? " if near else ""
    return f"{hint}Providers are: {', '.join(names)}; [providers.NAME] in ostler.toml adds another."


def ollama_url(keys: Keys) -> str:
    """Where Ollama speaks Chat Completions. Raises `ConfigurationError`."""
    return f"{told(keys.ollama_host, 'OLLAMA_HOST').rstrip('/')}/v1"


def make(ref: ModelRef, keys: Keys, targets: Targets) -> ModelProvider:
    """A provider that reaches `ref`. Raises `ConfigurationError` if it cannot be reached from here."""
    made: Callable[..., ModelProvider]
    dialect = ref.dialect or ref.provider
    if dialect not in PROVIDERS:
        raise ConfigurationError(
            f"No provider {ref.provider!r} is known here for the model {ref.name!r}.",
            hint="A session that was started with a model object of Python code needs that object again.",
        )
    made = part(PROVIDERS[dialect], extra="http")
    if dialect == "strategy":
        return made({name: part(path, extra="http") for name, path in STRATEGIES.items()})
    return made(**_access(ref, keys, targets))


def _access(ref: ModelRef, keys: Keys, targets: Targets) -> dict[str, Any]:
    """The address and the key, which is for one server and told to no other."""
    match ref.provider:
        case "anthropic":
            return _with_key("Anthropic", keys.anthropic_api_key, keys.anthropic_base_url, "ANTHROPIC_API_KEY")
        case "google":
            return _with_key("Google", keys.google_api_key, keys.google_base_url, "GEMINI_API_KEY")
        case "openai":
            url, meant = ref.base_url or OPENAI_URL, keys.openai_base_url or OPENAI_URL
            key = keys.openai_api_key if url == meant else None
            if url == OPENAI_URL and not key:
                there = f"; that of OPENAI_API_KEY is for {meant}" if keys.openai_api_key else ""
                raise ConfigurationError(f"No key for OpenAI{there}.", hint=_OPENAI_HINT)
            return {"api_key": key, "base_url": url}
        case "ollama":
            return {"api_key": None, "base_url": ref.base_url}
        case _:
            return _access_to(targets.get(ref.provider), ref)


def _access_to(target: ProviderTarget | None, ref: ModelRef) -> dict[str, Any]:
    if target is None:
        raise ConfigurationError(
            f"No provider {ref.provider!r} is known here for the model {ref.name!r}.",
            hint=f"Add [providers.{ref.provider}] to ostler.toml, as where the session was started.",
        )
    table = target.table
    if ref.base_url != table.base_url:
        raise ConfigurationError(
            f"The session was started with {ref.provider} at {ref.base_url}, which is now at {table.base_url}.",
            hint=f"Give the old address a name of its own in ostler.toml, or start a new session with {ref.provider}.",
        )
    if table.key_env is not None and target.key is None:
        raise ConfigurationError(f"No key for {ref.provider}.", hint=f"Set {table.key_env}.")
    return {"api_key": target.key, "base_url": table.base_url}


def _with_key(who: str, key: str | None, base_url: str | None, variable: str) -> dict[str, Any]:
    if not key:
        raise ConfigurationError(f"No key for {who}.", hint=f"Set {variable}.")
    return {"api_key": key} | ({"base_url": base_url} if base_url else {})
