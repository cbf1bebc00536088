"""The tools of memory as models, policies and the gate see them."""

import msgspec
import pytest

from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.schema import compile_schema
from ostler.domain.tool import ToolSpec

TOOLS = pytest.mark.parametrize("spec", MEMORY_TOOLS, ids=lambda spec: spec.name)
WHOSE = {"tenant", "agent", "user", "session", "scope"}


@TOOLS
def test_whose_memories_are_meant_is_no_argument(spec: ToolSpec) -> None:
    assert not WHOSE & set(spec.parameters["properties"])


@TOOLS
def test_every_argument_is_bounded_and_described(spec: ToolSpec) -> None:
    compile_schema(spec.parameters)
    assert spec.parameters["additionalProperties"] is False
    for name, argument in spec.parameters["properties"].items():
        assert argument["description"], name
        if argument["type"] == "string" and "enum" not in argument:
            assert argument["maxLength"] > 0, name
        if argument["type"] == "array":
            assert argument["maxItems"] > 0, name


@TOOLS
def test_what_writes_can_be_done_twice_and_is_told_whose_words_it_is_given(spec: ToolSpec) -> None:
    if spec.name.startswith("working."):
        return
    assert set(spec.roles) <= {"remembers", "recalls"}
    assert spec.roles
    assert spec.effect == ("idempotent" if "remembers" in spec.roles else "read")


def test_they_are_the_same_after_a_way_through_the_log() -> None:
    written = msgspec.json.encode(MEMORY_TOOLS)
    assert tuple(msgspec.json.decode(written, type=list[ToolSpec])) == MEMORY_TOOLS
