"""What is known of models: `ostler models list`, `show` and `refresh`."""

import click
import msgspec

from ostler.app.cards import EXTRA, LIBRARY, Listed, Sheet
from ostler.app.models import Models
from ostler.cli.base import settings
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.domain.model import Price
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import NotFound


class Shown(msgspec.Struct, frozen=True):
    """A model, with who says what of it."""

    name: str
    provider: str
    price: Price | None
    window_tokens: int | None
    reply_tokens_max: int | None
    abilities: tuple[str, ...] | None
    quality: float | None
    latency_s: float | None
    region: str | None
    data_class: str | None
    note: str
    sources: dict[str, str]


@click.command("list")
@click.argument("provider", required=False, default="")
@output_options
def list_(provider: str, output: Format) -> None:
    """List the models that are known, or those of one PROVIDER (anthropic, google, openai, groq …).

    First those of `[models]` and `[prices]` in ostler.toml, then those of genai-prices, where it is installed. Any
    other model can be named as well; only its price and its window are not known.
    """
    known = settings()
    cards = Models(known).cards
    own = [name for name in {**known.models, **known.prices} if name.startswith(f"{provider}:" if provider else "")]
    listed = [_listed(_sheet(name)) for name in own]
    listed += [one for one in cards.listed(provider) if one.name not in own]
    if not listed and provider:
        raise NotFound(f"Nothing is known of models of {provider!r}.", hint=_hint(cards.source is None))
    if not listed and output == "table":
        say(f"No model is known by price. {_hint(True)}")
        return
    emit(listed, output, lambda: _table(listed))
    if output == "table":
        source = "" if cards.source is None else f"; from {cards.source.source} {cards.source.date}".rstrip()
        say(f"Prices are in USD for a million tokens{source}.")


@click.command()
@click.argument("name")
@output_options
def show(name: str, output: Format) -> None:
    """Show what is known of the model NAME (PROVIDER:NAME), and who says so.

    Prices are in USD for a million tokens.
    """
    shown = _shown(_sheet(name))
    emit(shown, output, lambda: blocks([_lines(shown)]))
    if shown.price is None and shown.window_tokens is None and output == "table":
        near = did_you_mean(name, [one.name for one in Models(settings()).cards.listed(name.partition(":")[0])])
        meant = f"Did you mean {near!r}? " if near else ""
        say(f'{meant}Its price and window can be said under [models."{shown.name}"] in ostler.toml.')


@click.command()
@click.option("--from", "url", metavar="URL", help="Where from; else where genai-prices keeps its newest data.")
@output_options
def refresh(url: str | None, output: Format) -> None:
    """Fetch newer prices and windows than those that came with genai-prices.

    They are kept with the project, or else with the user, until another version of genai-prices is installed. Sessions
    that run keep the prices that they started with.
    """
    source = Models(settings()).cards.refresh(url)
    emit(source, output, lambda: f"fetched from {source.source}, {source.date}")


def _sheet(name: str) -> Sheet:
    models = Models(settings())
    return models.cards.of(models.named(name))


def _listed(sheet: Sheet) -> Listed:
    return Listed(sheet.card.name, sheet.card.model.price, sheet.card.window_tokens)


def _shown(sheet: Sheet) -> Shown:
    card = sheet.card
    return Shown(
        card.name,
        card.model.provider,
        card.model.price,
        card.window_tokens,
        card.reply_tokens_max,
        card.abilities,
        card.quality,
        card.latency_s,
        card.region,
        card.data_class,
        sheet.note,
        {field: f"{source.source} {source.date}".rstrip() for field, source in sheet.sources.items()},
    )


def _table(listed: list[Listed]) -> Rows:
    rows = [(one.name, *_prices(one.price), f"{one.window_tokens:,}" if one.window_tokens else "–") for one in listed]
    return Rows("model", "input>", "reply>", "cache read>", "cache write>", "window>", rows=rows)


def _prices(price: Price | None) -> tuple[str, str, str, str]:
    if price is None:
        return "–", "–", "–", "–"
    each = (price.input_microusd, price.output_microusd, price.cache_read_microusd, price.cache_write_microusd)
    one, two, three, four = ("–" if amount is None else f"${amount / 1e6:g}" for amount in each)
    return one, two, three, four


def _lines(shown: Shown) -> list[tuple[str, str]]:
    """Everything that may be known, also where it is not, and who says it."""
    of = dict(zip(("input", "reply", "cache read", "cache write"), _prices(shown.price), strict=True))
    prices = ", ".join(f"{name} {price}" for name, price in of.items() if price != "–")
    said = (
        ("price per 1M", "price", f"{prices}; {shown.note}" if shown.note else prices),
        ("window", "window_tokens", _tokens(shown.window_tokens)),
        ("longest reply", "reply_tokens_max", _tokens(shown.reply_tokens_max)),
        ("abilities", "abilities", ", ".join(shown.abilities or ())),
        ("quality", "quality", "" if shown.quality is None else f"{shown.quality:g}"),
        ("usual reply", "latency_s", "" if shown.latency_s is None else f"{shown.latency_s:g} s"),
        ("region", "region", shown.region or ""),
        ("data", "data_class", shown.data_class or ""),
    )
    lines = [("model", shown.name)]
    for label, field, value in said:
        source = shown.sources.get(field, "")
        lines.append((label, f"{value}  ({source})" if value and source else value or "not known"))
    return lines


def _tokens(number: int | None) -> str:
    return "" if number is None else f"{number:,} tokens"


def _hint(is_missing: bool) -> str:
    if is_missing:
        return f"Say prices under [prices] in ostler.toml, or `pip install 'ostler[{EXTRA}]'` for those of {LIBRARY}."
    return "`ostler models list` shows those that are known."
