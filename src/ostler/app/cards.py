"""What is known of models, and who says so: the project's settings, and `genai-prices` where it is installed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ostler.app.definition import Problem
from ostler.app.plugins import is_installed, part
from ostler.domain.model import ModelRef, Price
from ostler.domain.strategy.card import Ability, Card, DataClass
from ostler.kernel.errors import ConfigurationError, OstlerError, ProviderUnreachable

LIBRARY = "genai-prices"
EXTRA = "prices"
MICROUSD_MAX = 10**12
"""A dollar a token; more is a slip, and would not fit into sums."""
_BY_NAME = ("anthropic", "google", "openai")
"""Providers that `genai-prices` calls by the same name; others it knows by their addresses."""


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[models."PROVIDER:NAME"]`: what you know of a model, in place of what others say. See `Card`.

    `source` and `date` say where you have it from.
    """

    price: Price | None = None
    window_tokens: int | None = None
    reply_tokens_max: int | None = None
    abilities: tuple[Ability, ...] | None = None
    quality: float | None = None
    latency_s: float | None = None
    region: str | None = None
    data_class: DataClass | None = None
    source: str = "ostler.toml"
    date: str = ""


class Source(msgspec.Struct, frozen=True):
    """Who says something, and when it was said; empty where that is not known."""

    source: str
    date: str = ""


class Sheet(msgspec.Struct, frozen=True):
    """A card, who says each of the things on it, and what else is to be known of its price."""

    card: Card
    sources: Mapping[str, Source] = {}
    note: str = ""


class Listed(msgspec.Struct, frozen=True):
    """A model that `genai-prices` knows."""

    name: str
    price: Price | None
    window_tokens: int | None


class _Refreshed(msgspec.Struct, frozen=True):
    """Newer data than those that came with the library, which was of this version."""

    version: str
    date: str
    url: str
    providers: list[Any]


class Cards:
    """The cards of models. The library is imported when a model is looked up that your settings do not say all of."""

    def __init__(
        self,
        tables: Mapping[str, ModelTable],
        prices: Mapping[str, Price],
        regions: Mapping[str, str],
        refreshed: Path,
    ) -> None:
        """`regions` are those of providers, by their names; `refreshed` is the file of newer data."""
        self._tables = tables
        self._prices = prices
        self._regions = regions
        self._file = refreshed
        self._kept: dict[ModelRef, Sheet] = {}
        self._library: _Library | None = None

    def of(self, ref: ModelRef) -> Sheet:
        """What is known of a model. What `ref` says itself counts more than anything."""
        if ref not in self._kept:
            self._kept[ref] = self._look_up(ref)
        return self._kept[ref]

    def filled(self, ref: ModelRef) -> ModelRef:
        """The model with its price and its window, if they are known."""
        return self.of(ref).card.model

    def listed(self, provider: str = "") -> list[Listed]:
        """What the library knows of the models that can be named without an address."""
        library = self._open()
        return library.listed([provider] if provider else list(_BY_NAME)) if library is not None else []

    @property
    def source(self) -> Source | None:
        """Where facts come from that your settings do not say; None if the library is not installed."""
        library = self._open()
        return None if library is None else library.source

    def refresh(self, url: str | None = None) -> Source:
        """Fetch newer data. Raises `ConfigurationError` without the library, and an `OstlerError` if that fails."""
        if not _version():
            hint = f"Install it with `pip install 'ostler[{EXTRA}]'`."
            raise ConfigurationError(f"{LIBRARY} is not installed.", hint=hint)
        where = url or part("genai_prices.update_prices:DEFAULT_UPDATE_URL", extra=EXTRA)
        body = _fetch(where)
        try:
            providers = msgspec.json.decode(body, type=list[Any])
            _snapshot(providers)
        except Exception as error:
            raise OstlerError(
                f"What {where} sent are no prices: {error}.", hint="Nothing was changed; the prices of before hold."
            ) from error
        held = _Refreshed(_version(), datetime.now(UTC).date().isoformat(), where, providers)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        begun = self._file.with_suffix(".part")
        begun.write_bytes(msgspec.json.encode(held))
        begun.replace(self._file)
        self._library = None
        self._kept.clear()
        return Source(where, held.date)

    def _open(self) -> "_Library | None":
        if self._library is None and _version():
            self._library = _Library(self._file)
        return self._library

    def _look_up(self, ref: ModelRef) -> Sheet:
        name = f"{ref.provider}:{ref.name}"
        table, sources = self._tables.get(name, ModelTable()), dict[str, Source]()
        own = Source(table.source, table.date)
        found = {
            field: value
            for field in ("reply_tokens_max", "abilities", "quality", "latency_s", "region", "data_class")
            if (value := getattr(table, field)) is not None
        }
        sources |= dict.fromkeys(found, own)
        if "region" not in found and ref.provider in self._regions:
            found["region"] = self._regions[ref.provider]
            sources["region"] = Source(f"[providers.{ref.provider}] in ostler.toml")
        price, window, note = ref.price, ref.window_tokens, ""
        if price is None and (price := table.price or self._prices.get(name)) is not None:
            sources["price"] = own if table.price is not None else Source("[prices] in ostler.toml")
        if window is None and (window := table.window_tokens) is not None:
            sources["window_tokens"] = own
        if ref.kind == "live" and (price is None or window is None) and (library := self._open()) is not None:
            said = library.look_up(ref)
            if price is None and said.price is not None:
                price, note, sources["price"] = said.price, said.note, library.source
            if window is None and said.window_tokens is not None:
                window, sources["window_tokens"] = said.window_tokens, library.source
        model = msgspec.structs.replace(ref, price=price, window_tokens=window)
        return Sheet(Card(name, model, **found), sources, note)


class _Said(msgspec.Struct, frozen=True):
    """What the library says of a model."""

    price: Price | None = None
    window_tokens: int | None = None
    note: str = ""


class _Library:
    """`genai-prices`, with the data that came with it or newer ones."""

    def __init__(self, refreshed: Path) -> None:
        newer = _newer(refreshed)
        if newer is None:
            self._snapshot = part("genai_prices.data_snapshot:get_snapshot", extra=EXTRA)()
            self.source = Source(f"{LIBRARY} {_version()}")
        else:
            self._snapshot, self.source = newer

    def look_up(self, ref: ModelRef) -> _Said:
        try:
            if ref.base_url is None and ref.provider in _BY_NAME:
                _, model = self._snapshot.find_provider_model(ref.name, None, ref.provider, None)
            elif ref.base_url is not None:
                _, model = self._snapshot.find_provider_model(ref.name, None, None, ref.base_url)
            else:
                return _Said()
        except LookupError:
            return _Said()
        return _said(model)

    def listed(self, providers: list[str]) -> list[Listed]:
        found = []
        for provider in self._snapshot.providers:
            if provider.id in providers:
                for model in provider.models:
                    said = _said(model)
                    found.append(Listed(f"{provider.id}:{model.id}", said.price, said.window_tokens))
        return found


def _said(model: Any) -> _Said:
    """The price now, at the first tier, and the window."""
    prices = model.get_prices(datetime.now(UTC))
    of = {field: _microusd(getattr(prices, f"{field}_mtok", None)) for field in _PRICES}
    price = None
    if of["input"] is not None and of["output"] is not None:
        price = Price(of["input"], of["output"], of["cache_read"], of["cache_write"])
    tiers = getattr(getattr(prices, "input_mtok", None), "tiers", None)
    note = f"long requests cost more (from {min(one.start for one in tiers):,} tokens)" if tiers else ""
    return _Said(price, model.context_window, note)


_PRICES = ("input", "output", "cache_read", "cache_write")


def _microusd(price: Any) -> int | None:
    """Micro-dollars for a million tokens, rounded up; of prices in tiers, the first."""
    if price is None:
        return None
    return -int(-(getattr(price, "base", price) * 1_000_000) // 1)


def _newer(file: Path) -> tuple[Any, Source] | None:
    """What was fetched since this version of the library was installed; None if it is not there or not readable."""
    try:
        held = msgspec.json.decode(file.read_bytes(), type=_Refreshed)
        return (_snapshot(held.providers), Source(held.url, held.date)) if held.version == _version() else None
    except Exception:  # of the file system, of the codec, of pydantic: those of the library hold, whatever it is
        return None


def _snapshot(providers: list[Any]) -> Any:
    read = part("genai_prices.types:_providers_from_raw", extra=EXTRA)
    return part("genai_prices.data_snapshot:DataSnapshot", extra=EXTRA)(read(providers), from_auto_update=True)


def _fetch(url: str) -> bytes:
    """Raises an `OstlerError` that says why it cannot be had."""
    get = part("httpx2:get", extra="http")
    failure = part("httpx2:HTTPError", extra="http"), part("httpx2:InvalidURL", extra="http")
    try:
        answer = get(url, timeout=10.0, follow_redirects=True)
        answer.raise_for_status()
    except failure as error:
        raise ProviderUnreachable(
            f"The prices cannot be fetched from {url}: {error}.", hint="The prices of before hold. Try again online."
        ) from error
    body: bytes = answer.content
    return body


def _version() -> str:
    """The version of the library; empty if it is not installed. It is not imported for it."""
    if not is_installed("genai_prices"):
        return ""
    version: str = part("importlib.metadata:version")(LIBRARY)
    return version


def problems_in_models(tables: Mapping[str, ModelTable], prices: Mapping[str, Price]) -> list[Problem]:
    """Everything that is wrong with the tables, by its place in the file."""
    problems = []
    for name, table in tables.items():
        at = f'models."{name}"'
        if ":" not in name:
            problems.append((at, "does not name a model; it looks like anthropic:claude-…"))
        for field in ("window_tokens", "reply_tokens_max", "latency_s"):
            value = getattr(table, field)
            if value is not None and not value > 0:
                problems.append((f"{at}.{field}", f"must be positive, got {value:g}"))
        if table.quality is not None and not 0 <= table.quality <= 1:
            problems.append((f"{at}.quality", f"must be between 0 and 1, got {table.quality:g}"))
        if table.price is not None:
            problems += _problems_in_price(table.price, f"{at}.price")
    for name, price in prices.items():
        problems += _problems_in_price(price, f'prices."{name}"')
    return problems


def _problems_in_price(price: Price, at: str) -> list[Problem]:
    """What is wrong with a price that stands `at` this place of the file."""
    found = msgspec.structs.asdict(price).items()
    return [
        (f"{at}.{field}", f"must be 0 to {MICROUSD_MAX}, got {value}")
        for field, value in found
        if value is not None and not 0 <= value <= MICROUSD_MAX
    ]
