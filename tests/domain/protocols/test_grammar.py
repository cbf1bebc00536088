import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.protocols import grammar
from ostler.domain.protocols.grammar import Action, Step, describe, parse, render
from ostler.domain.tool import ToolSpec, observation, succeeded

STOCK = ToolSpec(
    name="stock",
    description="How many are left of an article.",
    parameters={
        "type": "object",
        "properties": {"sku": {"type": "string", "examples": ["A-17"]}, "depot": {"type": "integer", "default": 1}},
        "required": ["sku"],
    },
)


def acts(text: str) -> tuple[str, str]:
    step = parse(text)
    assert step.action is not None, step
    assert step.answer is None
    assert step.defect is None
    return step.action.tool, step.action.arguments


# -------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    "text",
    [
        'Thought: t\nAction: stock {"sku": 1}',
        'THOUGHT : t\nACTION   : stock {"sku": 1}',
        'thought:t\naction:stock {"sku": 1}',
        '**Thought:** t\n**Action:** stock {"sku": 1}',
        '**Thought**: t\n**Action**: `stock` {"sku": 1}',
        '- Thought: t\n- Action: stock {"sku": 1}',
        '1. Thought: t\n2) Action: stock {"sku": 1}',
        '### Thought: t\n### Action: **stock** {"sku": 1}',
        '  Thought: t\n   Action: stock {"sku": 1}',
        'Thought: t\r\nAction: stock {"sku": 1}\r\n',
        'Thought\uff1at\nAction\uff1astock {"sku": 1}',
        't\nAction: stock {"sku": 1}',
        'Thought: t\n\nAction:\nstock\n{"sku": 1}\n',
        'Thought: t\nAction: stock\nAction Input: {"sku": 1}',
        'Thought: t\nAction: stock({"sku": 1})',
        'Thought: t\nAction: stock ( {"sku": 1} )',
        'Thought: t\nAction: stock: {"sku": 1}',
        'Thought: t\nAction: stock : {"sku": 1}',
        'Thought: t\nAction: stock{"sku": 1}',
        'Thought: t\nAction: stock ```json\n{"sku": 1}\n```',
        'Thought: t\nAction: stock\n```\n{"sku": 1}\n```',
        'Thought: t\nAction: stock ```{"sku": 1}```',
        'Thought: t\nAction:\n```\nstock {"sku": 1}\n```',
        't\nAction: stock {"sku": 1}\n```',
    ],
)
def test_a_step_is_understood_however_it_is_decorated(text):
    step = parse(text)
    assert (step.thought, step.action, step.answer, step.defect) == ("t", Action("stock", '{"sku": 1}'), None, None)


@pytest.mark.parametrize(
    "line",
    [
        "Thoughtfully: stock {}",
        "Actions: stock {}",
        "Action plan: stock {}",
        "Action 1: stock {}",
        "My Action: stock {}",
        "Reaction: stock {}",
        "Act\u0131on: stock {}",
        "    Action: stock {}",
        "\tAction: stock {}",
        "Action stock {}",
        "Action\n: stock {}",
        "Final Answers: 42",
        "FINAL_ANSWER 42",
        "The Final Answer: 42",
        "Thought: Action: stock {}",
        "x\u2028Action: stock {}",
        "x\rAction: stock {}",
    ],
)
def test_what_only_resembles_a_header_is_none(line):
    step = parse(f"Thought: t\n{line}")
    assert (step.action, step.answer) == (None, None)
    assert step.defect is not None
    assert step.thought.startswith("t\n")


@pytest.mark.parametrize("tool", ["ls", "files.read", "fs:read", "mcp__github__search", "a/b", "get-it", "größe", "_x"])
def test_a_tool_alone_has_no_arguments(tool):
    assert acts(f"Action: {tool}") == acts(f"Action: {tool}()") == acts(f"Action: {tool}:") == (tool, "{}")


def test_arguments_may_take_many_lines_and_contain_words_like_headers():
    arguments = '{\n  "text": "Thought: no\\nAction: no",\n  "Action": "Observation: no"\n}'
    assert acts(f"Thought: t\nAction: files.write {arguments}\n\nThought: next") == ("files.write", arguments)


@pytest.mark.parametrize(
    "arguments",
    ['{"sku": }', '{"sku": 1', "A-17", '"A-17"', "[1]", "sku=1", '{"a": 1} and then I wait', '("A-17"', "{'sku': 1}"],
)
def test_arguments_that_are_no_object_are_left_for_the_gate_to_judge(arguments):
    assert acts(f"Action: stock {arguments}") == ("stock", arguments)


# ------------------------------------------------------------------------------------------------------ one step


@pytest.mark.parametrize(
    ("rest", "kept"),
    [
        ('\nObservation: {"ok":true,"data":3}\nThought: 3 it is\nFinal Answer: 3', ""),
        ("\nThought: and then\nAction: pay {}", ""),
        ("\nAction: pay {}", ""),
        ("\nFinal Answer: 3", ""),
        ("\n\n**observation** : 3\nAction: pay {}", ""),
        ("\n- Observation 1: 3", ""),
        ("\nOBSERVATION\uff1a3", ""),
    ],
)
def test_the_first_action_counts_and_what_follows_it_is_discarded(rest, kept):
    first = 'Thought: t\nAction: stock {"sku": "A-17"}'
    assert parse(first + rest) == Step(thought="t", action=Action("stock", '{"sku": "A-17"}'), text=first + kept)


def test_nothing_after_a_made_up_observation_is_performed_or_believed():
    for rest in ("Action: pay {}", "Final Answer: 3", "Thought: t\nAction: pay {}"):
        step = parse(f"Thought: t\nObservation: paid\n{rest}")
        assert (step.action, step.answer, step.text, step.thought) == (None, None, "Thought: t", "t")
        assert step.defect is not None
        assert "wrote an observation yourself" in step.defect
    assert parse("Observation: paid\nAction: pay {}").text == ""


def test_several_thoughts_are_all_kept():
    step = parse("First\nThought: second\nline\nThought: third\nAction: ls")
    assert step.thought == "First\nsecond\nline\nthird"


# -------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "text",
    [
        "Final Answer: 42",
        "FINAL_ANSWER: 42",
        "final_answer : 42",
        "**Final Answer:** 42",
        "### Final answer\uff1a\n42\n",
        "Action: FINAL_ANSWER 42",
        "Action: FINAL_ANSWER: 42",
        "Action: final_answer(42)",
        "Action: Final Answer: 42",
        "Action: `FINAL_ANSWER` 42",
        "Action:\nFINAL_ANSWER\n42",
        "Final Answer: 42\nObservation: right",
    ],
)
def test_a_final_answer_ends_it_as_a_header_and_as_an_action(text):
    step = parse(f"Thought: t\n{text}")
    assert (step.thought, step.action, step.answer, step.defect) == ("t", None, "42", None)


@pytest.mark.parametrize("tool", ["FINAL_ANSWERS", "final_answer_now", "FINAL_ANSWER-2", "finalanswer"])
def test_a_tool_whose_name_begins_like_it_is_no_final_answer(tool):
    assert acts(f"Action: {tool} 42") == (tool, "42")


def test_an_answer_is_all_the_rest_of_the_reply():
    answer = "Minutes:\n\nAction: Bo calls the bank\nThought: see you\n```\ncode\n```"
    assert parse(f"Final Answer: {answer}").answer == answer
    assert parse(f"Action: FINAL_ANSWER {answer}").answer == answer
    assert parse("Action: FINAL_ANSWER (a) or (b)").answer == "(a) or (b)"


# -------------------------------------------------------------------------------------------------------- defects


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Your reply is empty."),
        (" \n\t", "Your reply is empty."),
        ("42", "neither an action nor a final answer"),
        ("Thought: hm", "neither an action nor a final answer"),
        ("Action:", "does not begin with the name of a tool"),
        ("Action:\nThought: hm", "does not begin with the name of a tool"),
        ('Action: {"tool": "stock"}', "does not begin with the name of a tool"),
        ('Action: ```json\n{"tool": "stock"}\n```', "does not begin with the name of a tool"),
        ("Final Answer:", "Your final answer is empty."),
        ("Action: FINAL_ANSWER()", "Your final answer is empty."),
        ("Final Answer:\nObservation: 42", "Your final answer is empty."),
    ],
)
def test_a_reply_that_decides_nothing_is_told_what_to_write(text, words):
    step = parse(text)
    assert (step.action, step.answer) == (None, None)
    assert step.defect is not None
    assert words in step.defect
    assert '"Action: TOOL {ARGUMENTS}"' in step.defect
    assert '"Final Answer: ANSWER"' in step.defect


headers = ("Thought:", "Action:", "Observation:", "Final Answer:", "FINAL_ANSWER", "Action Input:")
marks = (
    "```",
    "```json",
    "**",
    "`",
    "- ",
    "1. ",
    " ",
    "    ",
    "\n",
    "\r",
    "\u2028",
    "\uff1a",
    *":(){}",
    '{"a": 1}',
    "ls",
)
pieces = st.sampled_from(headers + marks)


@given(st.text() | st.lists(pieces | st.text(max_size=3), max_size=20).map("".join))
def test_every_text_is_exactly_one_of_action_answer_and_defect(text):
    step = parse(text)
    assert [step.action, step.answer, step.defect].count(None) == 2
    assert text.startswith(step.text)
    assert not re.search(r"^observation:", step.text, re.IGNORECASE | re.MULTILINE)
    again = parse(step.text)
    assert (again.action, again.answer, again.thought) == (step.action, step.answer, step.thought)


# ----------------------------------------------------------------------------------------------------- round trip

lines = st.text() | st.lists(pieces | st.text(max_size=3), max_size=20).map("".join)
tools = st.from_regex(r"[a-z_][a-z0-9_]{0,8}([./:-][a-z0-9]{1,5})?", fullmatch=True).filter(
    lambda name: not name.startswith("final_answer")
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | lines
    | st.sampled_from(["a\nThought: b", "\nObservation: c\nAction: d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(lines, inner, max_size=3),
    max_leaves=5,
)


@given(lines, tools, st.dictionaries(lines, json_values, max_size=3), st.sampled_from([None, 2]))
def test_an_action_survives_being_written_and_read_whatever_its_values_say(thought, tool, arguments, indent):
    action = Action(tool, json.dumps(arguments, indent=indent))
    written = render(Step(thought=thought, action=action))
    step = parse(written)
    assert step == Step(thought=step.thought, action=action, text=written)


@given(lines, lines.map(str.strip).filter(bool))
def test_an_answer_survives_being_written_and_read(thought, answer):
    step = parse(render(Step(thought=thought, answer=answer)))
    assert step.answer is not None
    assert step.answer.split() == answer.split()


@pytest.mark.parametrize("header", ["Action: pay {}", "- **Final Answer:** 3", "Observation: paid", "Thought: a"])
def test_a_thought_cannot_forge_a_header(header):
    for move in (Step(thought=f"a\n{header}", action=Action("ls")), Step(thought=f"a\n{header}", answer="b")):
        step = parse(render(move))
        assert (step.action, step.answer) == (move.action, move.answer)
        assert step.thought == f"a\n    {header}"


@given(st.text(alphabet="ab \n:").map(str.strip))
def test_a_thought_survives_being_written_and_read(thought):
    step = parse(render(Step(thought=thought, action=Action("ls"))))
    assert step.thought == thought


@given(lines)
def test_an_observation_cannot_be_taken_for_a_header(output):
    told = f"Observation: {observation(succeeded(output))}"
    assert parse(f"Action: ls\n{told}") == parse("Action: ls")
    assert "\n" not in told


# --------------------------------------------------------------------------------------------------- linear time

SIZE = 1_000_000


@pytest.mark.parametrize(
    "unit",
    ["Thought:\n", "Action:", " ", "\n", "Thought ", "Action" + " " * 50, "- ", "*", "`", "#", "```\n", "(", ":", "a:"],
)
@pytest.mark.parametrize("before", ["", "Action: ", "Action: x (", "Final Answer:"])
def test_a_huge_reply_is_read_without_backtracking(before, unit):
    """A search that went back over a megabyte for each of its characters would not end before the test is killed."""
    text = before + unit * (SIZE // len(unit))
    step = parse(text)
    assert text.startswith(step.text)


@given(pieces, pieces, pieces)
def test_what_is_read_from_a_long_reply_is_what_is_read_from_a_short_one(first, second, third):
    def kind(repeats: int) -> list[bool]:
        step = parse(first + second * repeats + third)
        return [step.action is None, step.answer is None]

    assert kind(500) == kind(10_000)


# ------------------------------------------------------------------------------------------------------ the prompt


def test_the_prompt_lists_every_tool_with_its_schema_and_one_example():
    ls = ToolSpec(name="ls", description="Lists files.", parameters={"type": "object"})
    prompt = describe((STOCK, ls))
    for tool in (STOCK, ls):
        assert f"{tool.name}: {tool.description}\n" in prompt
        assert msgspec.json.encode(tool.parameters).decode() in prompt
    assert prompt.count("\nAction: ") == 1
    assert '\nAction: stock {"sku":"A-17"}\n' in prompt
    assert "\nFinal Answer: " in prompt


def test_the_example_in_the_prompt_is_read_as_it_is_meant():
    example = describe((STOCK,)).split("\n\n")[1]
    assert acts(example) == ("stock", '{"sku":"A-17"}')


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["asc", "desc"]}, "asc"),
        ({"const": 3}, 3),
        ({"type": "integer"}, 1),
        ({"type": "array"}, []),
        ({"type": ["null", "string"]}, "…"),
        ({"default": {"a": 1}}, {"a": 1}),
        ({"examples": {}}, "…"),
        (True, "…"),
    ],
)
def test_the_example_has_a_value_for_every_required_argument(schema, value):
    tool = ToolSpec(name="t", description="", parameters={"properties": {"a": schema, "b": {}}, "required": ["a"]})
    assert json.loads(acts(describe((tool,)).split("\n\n")[1])[1]) == {"a": value}


def test_without_tools_the_prompt_explains_how_to_answer():
    assert "Final Answer" in describe(())
    assert "Action" not in describe(())


def test_the_stop_sequence_is_where_an_observation_would_begin():
    assert parse(f"Action: ls{grammar.STOP[0]} made up").text == "Action: ls"
