"""Agents and tools that a project brings along."""

from pathlib import Path

import msgspec
import pytest

from ostler.app.project import agent_names, find_agent, load_code
from ostler.app.settings import resolve
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound

LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {}})


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_agent_is_a_file_or_a_name_in_the_project_or_built_in(tmp_path: Path) -> None:
    settings = resolve({}, tmp_path)
    file = write(tmp_path / "elsewhere/x.toml", 'name = "x"\ntools = ["look"]\nmodel = "ollama:m"')
    by_path = find_agent(str(file), settings, [LOOK])
    assert (by_path.spec.name, by_path.model, by_path.spec.tools) == ("x", "ollama:m", (LOOK,))
    write(tmp_path / "agents/clerk.toml", 'name = "clerk"')
    assert find_agent("clerk", settings, []).source == str(tmp_path / "agents/clerk.toml")
    assert {"clerk", "coder"} <= set(agent_names(settings))


def test_the_project_s_own_agent_comes_before_the_built_in_one(tmp_path: Path) -> None:
    settings = resolve({}, tmp_path)
    write(tmp_path / "agents/coder.toml", 'name = "coder"\nversion = 7')
    assert find_agent("coder", settings, []).spec.version == 7


def test_an_unknown_agent_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        find_agent("codr", resolve({}, tmp_path), [])
    assert "Did you mean 'coder'?" in caught.value.hint
    with pytest.raises(NotFound):
        find_agent("./nothing.toml", resolve({}, tmp_path), [])


def test_decorated_functions_of_a_file_are_tools(tmp_path: Path) -> None:
    file = write(
        tmp_path / "tools.py",
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from ostler import tool\n\n"
        "@dataclass\nclass Place:\n    name: str\n\n"
        "@tool\ndef go(place: Place) -> str:\n    'Go.'\n    return place.name\n\n"
        "def not_a_tool(): ...\n",
    )
    (found,) = load_code([file]).tools
    assert found.spec.name == "go"
    assert msgspec.json.encode(found.spec)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def f(:", "line 1: SyntaxError"),
        ("raise ValueError('no')", "ValueError: no"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "no function with the decorator @tool"),
        ("from ostler import tool\n@tool(effect='odd')\ndef f(): 'x'", "'odd'"),
    ],
)
def test_a_file_that_brings_no_tools_is_refused_with_its_problem(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path / "tools.py", text)
    with pytest.raises(DefinitionInvalid) as caught:
        load_code([file])
    assert problem in caught.value.message


def test_a_missing_file_of_tools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionInvalid, match="does not exist"):
        load_code([tmp_path / "none.py"])
    with pytest.raises(DefinitionInvalid, match="is not a Python file that can be read"):
        load_code([tmp_path])


def test_a_folder_in_the_place_of_an_agent_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is a folder, not an agent") as caught:
        find_agent(str(tmp_path), resolve({}, tmp_path), [])
    assert "--workspace" in caught.value.hint
