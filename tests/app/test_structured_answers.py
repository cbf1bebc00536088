"""Agents that return something: the answer is JSON that fits, is repaired by the model, or there is none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ostler import Agent, Limits, Result, Rewrite, Runtime, hook
from ostler.app.agents import parse
from ostler.domain.model import Reply
from ostler.domain.schema import judge_answer
from ostler.domain.session.events import ModelCompleted
from ostler.kernel.errors import Conflict, DefinitionInvalid
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls

VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {"is_spam": {"type": "boolean"}, "because": {"type": "string"}},
    "required": ["is_spam", "because"],
    "additionalProperties": False,
}
FITS = '{"is_spam":true,"because":"it sells pills"}'


async def ran(*turns: Any, **about: Any) -> tuple[Result, list[ModelCompleted], Scripted]:
    """One session of an agent that returns a verdict, decided again from its log afterwards."""
    model = Scripted(*turns, name="judge", tools=about.pop("tools_mode", "native"))
    agent = Agent("judge", **{"returns": VERDICT, "model": model, **about})
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(agent, "Is this spam?")
        result = await session.result()
        records = [record async for record in session.records(follow=False)]
        events = [happening.event async for happening in session.events(follow=False)]
    replay(records)
    return result, [event for event in events if isinstance(event, ModelCompleted)], model


async def test_an_answer_that_fits_is_the_result_and_its_value() -> None:
    result, replies, model = await ran(FITS)
    assert (result.status, result.text) == ("completed", FITS)
    assert result.value == {"is_spam": True, "because": "it sells pills"}
    assert model.requests[0].returns == VERDICT
    assert replies[0].answer is None  # what is said already is not said again


@pytest.mark.parametrize("text", [f"```json\n{FITS}\n```", f"```\n{FITS}\n```", f"\n {FITS} \n"])
async def test_a_code_fence_or_space_around_the_answer_is_dropped(text: str) -> None:
    result, replies, _ = await ran(text)
    assert result.text == FITS
    assert replies[0].text == text


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        ("It is spam.", "line 1, column 1"),
        ('{"is_spam":"yes","because":""}', "is_spam: expected boolean"),
        ('{"is_spam":true}', "because: required, but missing"),
        (FITS[:-1], "line 1"),
    ],
)
async def test_an_answer_that_does_not_fit_is_told_to_the_model_which_repairs_it(unfit: str, told: str) -> None:
    result, replies, model = await ran(unfit, FITS)
    assert result.value["is_spam"] is True
    assert replies[0].unfit
    assert not replies[1].unfit
    said = model.requests[1].messages[-1].text
    assert told in said
    assert msgspec.json.encode(VERDICT).decode() in said


async def test_after_as_many_repairs_as_the_limit_allows_the_session_fails_and_says_why() -> None:
    result, replies, _ = await ran("no", "no", '{"is_spam":1}')
    assert (result.status, result.reason, len(replies)) == ("failed", "unfit_answer", 3)
    assert "3 answers did not fit" in result.text
    assert "is_spam: expected boolean" in result.text
    with pytest.raises(Conflict, match="has no answer"):
        _ = result.value


async def test_the_limit_of_repairs_is_its_own_and_that_of_defects_does_not_come_before_it() -> None:
    result, replies, _ = await ran("no", "no", "no", FITS, limits=Limits(repairs=3, defects=1))
    assert result.is_success
    assert [reply.unfit for reply in replies] == [True, True, True, False]
    none, _, _ = await ran("no", FITS, limits=Limits(repairs=0))
    assert none.reason == "unfit_answer"


async def test_calls_between_answers_that_do_not_fit_do_not_begin_the_count_anew() -> None:
    nothing = calls(("unknown", {}))
    result, _, _ = await ran("no", nothing, "no", nothing, "no", FITS)
    assert result.reason == "unfit_answer"


async def test_what_the_schema_has_a_default_for_is_filled_in() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    result, replies, _ = await ran("{}", returns=schema)
    assert result.value == {"n": 3}
    assert replies[0].answer == '{"n":3}'


async def test_in_the_text_grammar_the_final_answer_is_what_has_to_fit() -> None:
    result, replies, model = await ran(
        "Thought: hm\nFinal Answer: spam", f"Thought: so\nFinal Answer: {FITS}", tools_mode="text"
    )
    assert result.value["is_spam"] is True
    assert [reply.unfit for reply in replies] == [True, False]
    assert model.requests[0].returns is None  # a server that allows nothing but JSON would not let it think
    assert msgspec.json.encode(VERDICT).decode() in model.requests[0].system


async def test_a_refusal_of_the_model_is_one_and_no_answer_that_does_not_fit() -> None:
    result, replies, _ = await ran(Reply("I will not.", stop="refusal"))
    assert (result.reason, result.text) == ("model_refused", "I will not.")
    assert not replies[0].unfit
    assert replies[0].defect is None


@hook("on_end", name="editor")
def _editor(_: Any) -> Rewrite:
    return Rewrite("nothing to see here", "tidier")


async def test_an_answer_that_a_hook_puts_in_its_place_has_to_fit_as_well() -> None:
    result, _, _ = await ran(FITS, hooks=[_editor])
    assert (result.status, result.reason) == ("failed", "unfit_answer")
    assert "hooks" in result.text


@dataclass
class Verdict:
    is_spam: bool
    because: str


class VerdictStruct(msgspec.Struct):
    is_spam: bool
    because: str


class VerdictModel(BaseModel):
    is_spam: bool
    because: str


class VerdictDict(TypedDict):
    is_spam: bool
    because: str


@pytest.mark.parametrize("kind", [Verdict, VerdictStruct, VerdictModel, VerdictDict])
async def test_a_type_says_what_an_agent_returns(kind: Any) -> None:
    returns = Agent("judge", returns=kind).spec.returns
    assert returns is not None
    assert {name: returns[name] for name in ("type", "properties")} == {
        name: VERDICT[name] for name in ("type", "properties")
    }
    assert sorted(returns["required"]) == ["because", "is_spam"]
    result, _, _ = await ran('{"is_spam":1}', FITS, returns=kind)
    assert msgspec.convert(result.value, Verdict) == Verdict(True, "it sells pills")


class Tree(msgspec.Struct):
    name: str
    below: list["Tree"] = []


async def test_a_type_that_contains_itself_may_be_returned() -> None:
    result, replies, _ = await ran('{"name":"a","below":[{"name":1}]}', '{"name":"a","below":[]}', returns=Tree)
    assert result.value == {"name": "a", "below": []}
    assert replies[0].unfit


@pytest.mark.parametrize("returns", [{"type": "objekt"}, {"unheard": 1}, "text", Runtime, 3])
def test_what_is_no_schema_is_refused_when_the_agent_is_made(returns: Any) -> None:
    with pytest.raises(DefinitionInvalid):
        Agent("judge", returns=returns)


def test_a_file_says_what_its_agent_returns_or_where_that_stands(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_bytes(msgspec.json.encode(VERDICT))
    for line in ('returns_file = "verdict.json"', 'returns = {type = "object", required = ["is_spam"]}'):
        spec, _ = parse(f'name = "judge"\n{line}', (), source="judge.toml", folder=tmp_path)
        assert spec.returns is not None
        assert spec.returns["type"] == "object"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('returns_file = "nowhere.json"', "cannot be read"),
        ('returns_file = "broken.json"', "holds no JSON object"),
        ('returns_file = "broken.json"\nreturns = {type = "object"}', "one too many"),
        ('returns = {type = "objekt"}', "objekt"),
        ('returns = "object"', "returns"),
    ],
)
def test_a_file_that_says_it_wrongly_is_told_what_is_wrong(lines: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[1")
    with pytest.raises(DefinitionInvalid, match=problem):
        parse(f'name = "judge"\n{lines}', (), source="judge.toml", folder=tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["{}", "```json\n{}\n```", "```\n{}```", "  {}\n"]))
def test_any_json_that_fits_is_taken_as_it_was_written(value: Any, around: str) -> None:
    written = msgspec.json.encode(value).decode()
    assert judge_answer(around.replace("{}", written), {}) == (written, [])


@given(st.text())
def test_no_text_whatever_breaks_the_judgement_of_an_answer(text: str) -> None:
    answer, problems = judge_answer(text, VERDICT)
    assert problems or VERDICT["required"] == [name for name in VERDICT["required"] if name in answer]
