"""What every `ToolHost` must do, as tests: subclass `ToolHostContract` and say how to make yours."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import jsonschema
import msgspec
import pytest

from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import ToolNotFound
from ostler.ports import ToolHost

PATIENCE_S = 60.0
"""A guard against waiting for ever, not a measure."""


class Endless(NamedTuple):
    """A call that would go on for ever, and how to see from outside that it has begun and whether it still goes on."""

    request: ToolRequest
    has_begun: Callable[[], bool]
    is_alive: Callable[[], bool]


class ToolHostContract(ABC):
    """Say how to make the host, and name a call that goes well and one that would never end."""

    @abstractmethod
    def make(self) -> ToolHost: ...

    @abstractmethod
    def harmless(self, folder: Path) -> ToolRequest:
        """A call that goes well however often it is made; it may use `folder`, which is empty at first."""

    @abstractmethod
    def endless(self, folder: Path) -> Endless: ...

    @pytest.fixture
    async def host(self) -> AsyncIterator[ToolHost]:
        host = self.make()
        yield host
        await host.close()

    async def test_every_tool_has_a_name_of_its_own_and_says_what_it_does(self, host: ToolHost) -> None:
        specs = host.specs()
        assert specs
        assert len({spec.name for spec in specs}) == len(specs)
        assert all(spec.description for spec in specs)

    async def test_parameters_are_a_closed_json_schema_that_fits_into_events(self, host: ToolHost) -> None:
        for spec in host.specs():
            jsonschema.Draft202012Validator.check_schema(spec.parameters)
            assert spec.parameters["type"] == "object"
            assert spec.parameters["additionalProperties"] is False
            assert msgspec.json.decode(msgspec.json.encode(spec), type=type(spec)) == spec

    async def test_defaults_are_valid_by_their_own_schema(self, host: ToolHost) -> None:
        for spec in host.specs():
            for schema in spec.parameters["properties"].values():
                if "default" in schema:
                    jsonschema.validate(schema["default"], {**schema, "$defs": spec.parameters.get("$defs", {})})

    async def test_a_call_that_goes_well_says_so(self, host: ToolHost, tmp_path: Path) -> None:
        outcome = await host.perform(self.harmless(tmp_path))
        assert outcome.ok, outcome.output
        assert outcome.kind is None
        if outcome.is_json:
            msgspec.json.decode(outcome.output)

    async def test_calls_may_run_at_the_same_time(self, host: ToolHost, tmp_path: Path) -> None:
        request = self.harmless(tmp_path)
        outcomes = await asyncio.gather(*(host.perform(request) for _ in range(4)))
        assert all(outcome.ok for outcome in outcomes)

    async def test_a_tool_that_is_not_here_is_not_performed(self, host: ToolHost, tmp_path: Path) -> None:
        request = msgspec.structs.replace(self.harmless(tmp_path), tool="no.such_tool")
        with pytest.raises(ToolNotFound):
            await host.perform(request)
        with pytest.raises(ToolNotFound):
            await host.reconcile(request)

    async def test_arguments_that_do_not_fit_are_an_outcome(self, host: ToolHost, tmp_path: Path) -> None:
        request = msgspec.structs.replace(self.harmless(tmp_path), arguments={"no such argument": 1})
        outcome = await host.perform(request)
        assert (outcome.ok, outcome.kind) == (False, "invalid")

    async def test_cancelling_stops_what_was_begun(self, host: ToolHost, tmp_path: Path) -> None:
        endless = self.endless(tmp_path)
        call = asyncio.create_task(host.perform(endless.request))
        async with asyncio.timeout(PATIENCE_S):
            while not endless.has_begun():
                assert not call.done(), call.result()
                await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not endless.is_alive()

    async def test_closing_twice_does_no_harm(self, host: ToolHost) -> None:
        names = [spec.name for spec in host.specs()]
        await host.close()
        await host.close()
        assert [spec.name for spec in host.specs()] == names
