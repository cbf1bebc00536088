"""What is known of models, who says so, and how newer prices are fetched."""

from asyncio import to_thread
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.app.cards import Cards, ModelTable, Source
from ostler.app.models import Models
from ostler.app.providers import Keys, ProviderTable
from ostler.app.settings import ProjectFile, resolve
from ostler.domain.model import ModelRef, Price
from ostler.kernel.errors import DefinitionInvalid, OstlerError, ProviderUnreachable
from ostler.testing.wire import JSON, Answer, WireServer

SONNET = ModelRef("live", "anthropic", "claude-sonnet-4-5")
OWN = Price(1, 2)


def cards(folder: Path, tables: dict[str, ModelTable] | None = None, **more: Any) -> Cards:
    return Cards(tables or {}, more.get("prices", {}), more.get("regions", {}), folder / "deep" / "prices.json")


def test_prices_and_windows_come_from_the_library_with_its_version(tmp_path: Path) -> None:
    sheet = cards(tmp_path).of(SONNET)
    assert sheet.card.name == "anthropic:claude-sonnet-4-5"
    assert sheet.card.model.price == Price(3_000_000, 15_000_000, 300_000, 3_750_000)
    assert sheet.card.window_tokens == 200_000
    assert sheet.sources["price"] == sheet.sources["window_tokens"]
    assert sheet.sources["price"].source.startswith("genai-prices ")


def test_a_dated_name_is_found_and_a_price_in_tiers_says_so(tmp_path: Path) -> None:
    known = cards(tmp_path)
    assert known.of(ModelRef("live", "anthropic", "claude-sonnet-4-5-20250929")).card.model.price is not None
    tiered = known.of(ModelRef("live", "google", "gemini-2.5-pro"))
    assert tiered.card.model.price is not None
    assert tiered.note.startswith("long requests cost more (from 200,000")


@pytest.mark.parametrize(
    "ref",
    [
        ModelRef("live", "anthropic", "no-such-model"),
        ModelRef("live", "ollama", "llama3.2", base_url="http://127.0.0.1:11434/v1", dialect="openai-chat"),
        ModelRef("live", "openai", "gpt-5", base_url="http://127.0.0.1:8000/v1", dialect="openai-chat"),
        ModelRef("live", "nowhere", "gpt-5"),
        ModelRef("scripted", "scripted", "gpt-5"),
    ],
)
def test_what_nobody_knows_is_not_known_and_never_0(ref: ModelRef, tmp_path: Path) -> None:
    sheet = cards(tmp_path).of(ref)
    assert (sheet.card.model, sheet.sources) == (ref, {})


def test_a_server_that_the_library_knows_by_its_address_has_its_prices(tmp_path: Path) -> None:
    ref = ModelRef("live", "router", "llama-3.3-70b-versatile", base_url="https://api.groq.com/openai/v1")
    assert cards(tmp_path).of(ref).card.model.price is not None


def test_your_own_settings_come_first_and_say_where_they_are_from(tmp_path: Path) -> None:
    table = ModelTable(
        quality=0.8, window_tokens=9, abilities=("tools",), price=OWN, source="our tests", date="2026-10-01"
    )
    known = cards(tmp_path, {"anthropic:claude-sonnet-4-5": table}, regions={"anthropic": "eu"})
    sheet = known.of(SONNET)
    assert (sheet.card.model.price, sheet.card.window_tokens, sheet.card.quality) == (OWN, 9, 0.8)
    assert sheet.card.region == "eu"
    ours = Source("our tests", "2026-10-01")
    assert sheet.sources == {
        **dict.fromkeys(("quality", "window_tokens", "abilities", "price"), ours),
        "region": Source("[providers.anthropic] in ostler.toml"),
    }


def test_the_table_of_prices_still_counts_and_what_the_model_itself_says_counts_most(tmp_path: Path) -> None:
    known = cards(tmp_path, prices={"anthropic:claude-sonnet-4-5": OWN})
    assert known.of(SONNET).card.model.price == OWN
    assert known.of(SONNET).sources["price"] == Source("[prices] in ostler.toml")
    said = msgspec.structs.replace(SONNET, price=Price(7, 7), window_tokens=7)
    assert known.filled(said) == said


async def test_a_model_that_is_named_gets_its_price_and_window(tmp_path: Path) -> None:
    project = ProjectFile(providers={"house": ProviderTable("http://127.0.0.1:9/v1", region="eu")})
    known = msgspec.structs.replace(resolve({}, tmp_path, store="memory:", project=project), keys=Keys("sk-a"))
    models = Models(known)
    choice = await models.choose("anthropic:claude-sonnet-4-5", "x")
    assert choice.model.price == Price(3_000_000, 15_000_000, 300_000, 3_750_000)
    assert choice.model.window_tokens == 200_000
    assert models.cards.of(models.named("house:m")).card.region == "eu"
    await models.close()


NEWER = [
    {
        "id": "anthropic",
        "name": "Anthropic",
        "api_pattern": "https://api\\.anthropic\\.com",
        "models": [
            {
                "id": "claude-sonnet-4-5",
                "match": {"starts_with": "claude-sonnet-4-5"},
                "context_window": 500_000,
                "prices": {"input_mtok": 1, "output_mtok": 2},
            }
        ],
    }
]


async def test_newer_prices_are_fetched_kept_and_used_by_others(tmp_path: Path) -> None:
    known = cards(tmp_path)
    assert known.filled(SONNET).window_tokens == 200_000
    async with WireServer() as server:
        server.answers(Answer((msgspec.json.encode(NEWER),), content_type=JSON))
        source = await to_thread(lambda: known.refresh(f"{server.url}/prices.json"))
    assert source.source.endswith("/prices.json")
    for later in (known, cards(tmp_path)):
        sheet = later.of(SONNET)
        assert (sheet.card.model.price, sheet.card.window_tokens) == (Price(1_000_000, 2_000_000), 500_000)
        assert sheet.sources["price"] == source
        assert later.of(ModelRef("live", "openai", "gpt-5")).card.model.price is None


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'[{"id": 1}]', b""])
async def test_what_are_no_prices_changes_nothing(body: bytes, tmp_path: Path) -> None:
    known = cards(tmp_path)
    async with WireServer() as server:
        server.answers(Answer((body,), content_type=JSON))
        with pytest.raises(OstlerError, match="no prices"):
            await to_thread(lambda: known.refresh(f"{server.url}/prices.json"))
    assert known.filled(SONNET).window_tokens == 200_000
    assert not (tmp_path / "deep").exists()


def test_offline_that_is_said_and_the_prices_of_before_hold(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnreachable, match=r"cannot be fetched from http://127\.0\.0\.1:9/x") as offline:
        cards(tmp_path).refresh("http://127.0.0.1:9/x")
    assert "prices of before hold" in offline.value.hint


def test_what_was_fetched_with_another_version_of_the_library_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    old = {"version": "0.0.1", "date": "2020-01-01", "url": "x", "providers": NEWER}
    (tmp_path / "deep" / "prices.json").write_bytes(msgspec.json.encode(old))
    assert cards(tmp_path).filled(SONNET).window_tokens == 200_000


@pytest.mark.parametrize(
    "damage",
    [
        {"date": b"\xff"},
        {"providers": b'[{"id":"anthropic"}]'},
        {"providers": b"[1,2]"},
        {"providers": b"[" * 50_000 + b"]" * 50_000},
        {"version": b""},
    ],
    ids=["no text", "half a provider", "no providers", "too deep", "no version"],
)
def test_a_damaged_file_of_newer_prices_stops_nobody(damage: dict[str, bytes], tmp_path: Path) -> None:
    held = {"version": version("genai-prices").encode(), "date": b"2026-11-01", "url": b"x"}
    parts = {name: b'"' + said + b'"' for name, said in held.items()} | {"providers": msgspec.json.encode(NEWER)}
    parts |= {name: said if name == "providers" else b'"' + said + b'"' for name, said in damage.items()}
    (tmp_path / "deep").mkdir()
    file = b"{" + b",".join(b'"' + name.encode() + b'":' + said for name, said in parts.items()) + b"}"
    (tmp_path / "deep" / "prices.json").write_bytes(file)
    assert cards(tmp_path).filled(SONNET).window_tokens == 200_000


def test_an_address_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnreachable, match="cannot be fetched"):
        cards(tmp_path).refresh("http://[::1")


@pytest.mark.parametrize(
    "price", [Price(-1, 0), Price(0, -1), Price(1, 1, -1), Price(1, 1, None, -1), Price(10**13, 1)]
)
def test_no_price_gives_money_back_or_fits_into_no_sum(price: Price, tmp_path: Path) -> None:
    project = ProjectFile(models={"a:b": ModelTable(price=price)}, prices={"a:c": price})
    with pytest.raises(DefinitionInvalid) as invalid:
        resolve({"HOME": str(tmp_path)}, tmp_path, project=project)
    assert [path.rpartition(".")[0] for path, _ in invalid.value.problems] == ['models."a:b".price', 'prices."a:c"']


def test_mistakes_in_what_is_said_of_models_are_all_told(tmp_path: Path) -> None:
    nan = float("nan")
    tables = {
        "nobody": ModelTable(quality=2, window_tokens=0),
        "a:b": ModelTable(latency_s=-1),
        "a:c": ModelTable(latency_s=nan),
    }
    with pytest.raises(DefinitionInvalid) as invalid:
        resolve({"HOME": str(tmp_path)}, tmp_path, project=ProjectFile(models=tables))
    assert [path for path, _ in invalid.value.problems] == [
        'models."nobody"',
        'models."nobody".window_tokens',
        'models."nobody".quality',
        'models."a:b".latency_s',
        'models."a:c".latency_s',
    ]
