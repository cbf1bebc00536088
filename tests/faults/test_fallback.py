"""The provider that is asked first goes down, in every way, and comes back: sessions go on over another meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ostler import Agent, ModelSettings, Runtime, Strategy
from ostler.app.breakers import BreakerTable, BreakerTables
from ostler.app.providers import ProviderTable
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.domain.model import Reply
from ostler.domain.session.events import CallRetried, ModelCompleted, ModelRequested
from ostler.domain.strategy.choice import Choice
from ostler.runtime.replay import replay
from ostler.testing.wire import JSON, Answer, WireServer
from tests.runtime.watching import events

FIRST, SECOND = "first:m", "second:m"
FAILURES = 3
RECOVERY_S = 0.4
SESSIONS = 8


class Provider(WireServer):
    """A server that can be told to say the same to everybody, or to refuse every connection."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.always: Answer | Reply = Reply(text)
        self._text = text

    def is_up(self) -> None:
        self.always = Reply(self._text)

    async def _answer(self, asked: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self._answers[:] = [self.always]
        return await super()._answer(asked, reader, writer)  # type: ignore[arg-type]

    async def refuses(self) -> None:
        """Stop listening; the port is kept in mind."""
        assert self._server is not None
        self.port = self._server.sockets[0].getsockname()[1]
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self.idle()

    async def listens(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)


def settings(folder: Path, first: WireServer, second: WireServer) -> Settings:
    project = ProjectFile(
        providers={name: ProviderTable(f"{one.url}/v1") for name, one in (("first", first), ("second", second))},
        breakers=BreakerTables(providers={"*": BreakerTable(failures=FAILURES, recovery_s=RECOVERY_S, probe_s=5.0)}),
    )
    return resolve({"HOME": str(folder)}, folder, store="memory:", project=project)


@asynccontextmanager
async def two_providers(folder: Path) -> AsyncIterator[tuple[Provider, Provider, Runtime, Agent]]:
    strategy = Strategy("fallback", FIRST, SECOND)
    agent = Agent("asker", "Answer.", model=strategy).with_settings(ModelSettings(timeout_s=0.3))
    async with (
        Provider("from the first") as first,
        Provider("from the second") as second,
        Runtime.open(settings(folder, first, second)) as runtime,
    ):
        yield first, second, runtime, agent


async def asked(runtime: Runtime, agent: Agent) -> tuple[str, list[Choice]]:
    """The answer of one more session, and the choices that led to it; its log is decided again as it was."""
    session = await runtime.start(agent, "Who are you?")
    result = await session.result(timeout_s=10)
    assert result.is_success, result
    seen = await events(session)
    replay(await runtime.parts.journal.records(session.stream))
    choices = [one.choice for one in seen if isinstance(one, ModelRequested | CallRetried) and one.choice is not None]
    answered = [one for one in seen if isinstance(one, ModelCompleted)]
    assert len(answered) == 1
    return result.text, choices


DOWN = {
    "refuses connections": None,
    "503": Answer(status=503, content_type=JSON, chunks=(b'{"error":{"message":"down"}}',)),
    "hangs": Answer(then="silence"),
}


@pytest.mark.parametrize("how", DOWN)
async def test_while_the_first_is_down_sessions_go_on_over_the_second_and_return_to_it_afterwards(
    how: str, tmp_path: Path
) -> None:
    async with two_providers(tmp_path) as (first, second, runtime, agent):
        text, choices = await asked(runtime, agent)
        assert (text, [one.model for one in choices]) == ("from the first", [FIRST])

        answer = DOWN[how]
        if answer is None:
            await first.refuses()
        else:
            first.always = answer
        before, by_breaker = len(first.asked), 0
        for number in range(SESSIONS):
            text, choices = await asked(runtime, agent)
            assert text == "from the second"
            if number < FAILURES:
                assert [one.model for one in choices] == [FIRST, SECOND]
                assert choices[1].excluded == ((FIRST, "it has failed in this call"),)
            reasons = dict(choices[0].excluded)
            by_breaker += reasons.get(FIRST, "").startswith("its breaker is open")
        assert by_breaker >= 1
        assert len(first.asked) - before < SESSIONS

        if answer is None:
            await first.listens()
        else:
            first.is_up()
        asking = len(second.asked)
        async with asyncio.timeout(10):
            while (await asked(runtime, agent))[0] != "from the first":
                pass
        for _ in range(3):
            text, choices = await asked(runtime, agent)
            assert (text, [one.model for one in choices]) == ("from the first", [FIRST])
        assert len(second.asked) >= asking
