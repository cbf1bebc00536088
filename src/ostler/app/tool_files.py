"""The tools that rules are checked against: those of a file, or of an agent of the project."""

import asyncio
from pathlib import Path

import msgspec

from ostler.app import definition
from ostler.app.bootstrap import connect
from ostler.app.project import find_agent, load_code
from ostler.app.settings import Settings
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound


def known_tools(file: str | None, agent: str | None, settings: Settings) -> list[ToolSpec] | None:
    """The tools that rules are checked against: those of a file, or of an agent of the project; None if none is named.

    A file is Python with `@tool` functions, or a JSON list of tools with `name`, `description` and `parameters`, and
    what else `ToolSpec` has. Raises `NotFound`, `DefinitionInvalid`.
    """
    if agent is not None:
        return list(find_agent(agent, settings, asyncio.run(_at_hand(settings))).spec.tools)
    if file is None:
        return None
    path = Path(file)
    if path.suffix == ".py":
        return [tool.spec for tool in load_code([path]).tools]
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise DefinitionInvalid(file, [("", f"is not valid JSON: {error}")]) from error
    return list(definition.read(data, tuple[ToolSpec, ...], source=file))


async def _at_hand(settings: Settings) -> list[ToolSpec]:
    """Every tool that an agent of the project may name: those of Ostler and the project's own."""
    parts = await connect(msgspec.structs.replace(settings, store="memory:"))
    try:
        parts.know(*load_code(settings.tools))
        return list(parts.tools.specs())
    finally:
        await parts.close()
