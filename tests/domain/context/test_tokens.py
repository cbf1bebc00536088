"""Tokens are estimated without a vocabulary, and the error is known: these texts were counted with the real ones.

`vocabularies.json` has what o200k (openai), the vocabulary that Anthropic last published (anthropic), tekken (mistral),
and those of Qwen and DeepSeek make of each text. docs/how-to/context.md has the error on some 1,100 other texts.
"""

from pathlib import Path
from statistics import mean
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.model import AskedCall, AssistantMessage, Image, Message, Reasoning, ToolMessage, UserMessage
from ostler.domain.tokens import (
    KINDS,
    NOTHING,
    Counts,
    Family,
    counts_of,
    counts_of_message,
    counts_of_tools,
    family_of,
    minus,
    plus,
    tokens,
)
from tests.domain.session.story import TOOLS


class Sample(msgspec.Struct):
    kind: str
    text: str
    tokens: dict[str, int]


SAMPLES = msgspec.json.decode(Path(__file__).with_name("vocabularies.json").read_bytes(), type=list[Sample])
COUNTED: tuple[Family, ...] = ("openai", "anthropic", "mistral", "qwen", "deepseek")
FAMILIES: tuple[Family, ...] = get_args(Family)


@pytest.mark.parametrize("family", COUNTED)
def test_the_error_of_a_single_text_is_within_what_is_stated(family: Family) -> None:
    errors = [tokens(counts_of(one.text), family) / one.tokens[family] - 1 for one in SAMPLES]
    assert mean(abs(error) for error in errors) < 0.12
    assert -0.25 < min(errors) < max(errors) < 0.4


@pytest.mark.parametrize("family", COUNTED)
def test_the_errors_of_many_texts_even_out(family: Family) -> None:
    total: Counts = NOTHING
    for one in SAMPLES:
        total = plus(total, counts_of(one.text))
    assert tokens(total, family) == pytest.approx(sum(one.tokens[family] for one in SAMPLES), rel=0.08)


def test_of_a_model_that_is_not_known_no_less_is_expected_than_of_most() -> None:
    for one in SAMPLES:
        assert tokens(counts_of(one.text), "other") > 0.85 * max(tokens(counts_of(one.text), it) for it in COUNTED)


@given(st.text(), st.text(), st.sampled_from(FAMILIES))
def test_texts_that_are_put_together_count_about_as_much_as_apart(one: str, other: str, family: Family) -> None:
    apart = tokens(plus(counts_of(one), counts_of(other)), family)
    assert abs(tokens(counts_of(f"{one}\n{other}"), family) - apart) <= 4


@given(st.text(), st.sampled_from(FAMILIES))
def test_no_text_counts_for_nothing_nor_for_much_more_than_its_bytes(text: str, family: Family) -> None:
    counted = tokens(counts_of(f"a{text}"), family)
    assert 0 < counted <= 3 * len(text.encode("utf-8", "replace")) + 1


@pytest.mark.parametrize("character", ["a", "A", "7", "-", " ", "\n", "é", "я", "的", "한", "ก", "🌍"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_run_of_one_character_is_not_free(character: str, family: Family) -> None:
    assert tokens(counts_of(character * 10_000), family) > 400


@given(st.text(), st.text())
def test_counts_add_up_and_are_taken_away_again(one: str, other: str) -> None:
    first, second = counts_of(one), counts_of(other)
    assert minus(plus(first, second), second) == first
    assert len(first) == len(KINDS)


MESSAGES: list[tuple[Message, Message]] = [
    (UserMessage("Look."), UserMessage("Look.", (Image("0" * 64, 50_000, "image/png"),))),
    (AssistantMessage("Yes."), AssistantMessage("Yes.", (AskedCall("1.1", "files.read", '{"path":"a"}'),))),
    (AssistantMessage("Yes."), AssistantMessage("Yes.", (), (Reasoning("anthropic", "m", "x" * 500),))),
    (ToolMessage("1.1", "files.read", "{}"), ToolMessage("1.1", "files.read", '{"ok":true,"data":"a b c"}')),
]


@pytest.mark.parametrize(("less", "more"), MESSAGES)
def test_all_that_a_message_holds_is_counted(less: Message, more: Message) -> None:
    for family in FAMILIES:
        assert tokens(counts_of_message(more), family) > tokens(counts_of_message(less), family) > 0


def test_tools_are_counted_with_their_schemas() -> None:
    assert tokens(counts_of_tools(TOOLS), "openai") > tokens(counts_of_tools(TOOLS[:1]), "openai") > 20


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-sonnet-5-5", "anthropic"),
        ("anthropic/claude-haiku-5", "anthropic"),
        ("eu.anthropic.claude-opus-5", "anthropic"),
        ("gpt-6-mini", "openai"),
        ("o4-mini", "openai"),
        ("Qwen/Qwen4-32B", "qwen"),
        ("mistral-large-latest", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("gemini-3-pro", "other"),
        ("llama-5", "other"),
    ],
)
def test_the_family_of_a_model_is_told_by_its_name(model: str, family: Family) -> None:
    assert family_of(model) == family
