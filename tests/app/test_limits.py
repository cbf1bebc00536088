"""Limits in `ostler.toml`: what can be said, what is a mistake, and that they hold for every worker."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ostler import Agent, Runtime
from ostler.app.settings import PROJECT_FILE, resolve
from ostler.domain.capacity import MINUTE_US, Limit
from ostler.domain.model import ModelRequest, Reply
from ostler.domain.scheduling import NO_CAPS, Caps, WorkerSettings
from ostler.domain.session.events import AgentStarted
from ostler.kernel.errors import DefinitionInvalid
from ostler.testing import Scripted
from tests.runtime.watching import only

ALL = """
    [limits.tenants."*"]
    sessions = 50
    model_calls = 20
    model_calls_per_minute = 600
    [limits.tenants.acme]
    model_calls = 40
    [limits.agents.coder]
    sessions = 4
    [limits.providers.anthropic]
    model_calls = 30
    model_calls_per_minute = 1000
"""


def project(folder: Path, text: str) -> Path:
    (folder / PROJECT_FILE).write_text(text)
    return folder


def test_sessions_are_caps_at_the_claim_and_calls_are_quotas(tmp_path: Path) -> None:
    limits = resolve({}, project(tmp_path, ALL)).limits
    assert limits.caps == Caps({"*": 50}, {"coder": 4})
    assert limits.quotas.limits(tenant="rival", agent="coder", provider="openai") == (
        Limit("tenants.rival.model_calls", 20),
        Limit("tenants.rival.model_calls_per_minute", 600, MINUTE_US),
    )


def test_what_a_table_leaves_out_is_as_that_of_all_others(tmp_path: Path) -> None:
    quotas = resolve({}, project(tmp_path, ALL)).limits.quotas
    assert [(limit.name, limit.most) for limit in quotas.limits(tenant="acme", agent="x", provider="anthropic")] == [
        ("tenants.acme.model_calls", 40),
        ("tenants.acme.model_calls_per_minute", 600),
        ("providers.anthropic.model_calls", 30),
        ("providers.anthropic.model_calls_per_minute", 1000),
    ]


def test_a_project_without_limits_has_none(tmp_path: Path) -> None:
    limits = resolve({}, project(tmp_path, "")).limits
    assert (limits.caps, bool(limits.quotas)) == (NO_CAPS, False)
    only_sessions = resolve({}, project(tmp_path, "[limits.agents.coder]\nsessions = 1")).limits
    assert (bool(only_sessions.caps), bool(only_sessions.quotas)) == (True, False)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[limits.tenant.acme]\nsessions = 1", [("limits.tenant", "is unknown (did you mean 'tenants'?)")]),
        (
            "[limits.tenants.acme]\nsession = 1",
            [("limits.tenants.acme.session", "is unknown (did you mean 'sessions'")],
        ),
        (
            "[limits.tenants.a]\nsessions = 0\n[limits.agents.b]\nmodel_calls = -1",
            [
                ("limits.tenants.a.sessions", "expected `int` >= 1"),
                ("limits.agents.b.model_calls", "expected `int` >= 1"),
            ],
        ),
        (
            "[limits.providers.p]\nsessions = 1\nmodel_calls_per_minute = 'x'",
            [
                ("limits.providers.p.sessions", "is unknown (there are: model_calls, model_calls_per_minute)"),
                ("limits.providers.p.model_calls_per_minute", "expected `int"),
            ],
        ),
        ("[limits.tenants]\nacme = 5", [("limits.tenants.acme", "expected a table, got int")]),
        ("limits = 5", [("limits", "expected a table, got int")]),
        (
            "[limits.agents.coder]\n[limits.providers.'*']",
            [
                (
                    "limits.agents.coder",
                    "limits nothing; set at least one of: model_calls, model_calls_per_minute, sess",
                ),
                ("limits.providers.*", "limits nothing; set at least one of: model_calls, model_calls_per_minute"),
            ],
        ),
        ("[limits.tenants.'']\nsessions = 1", [("limits.tenants.", "is nobody's name")]),
        (
            "[limits.providers.openai-chat]\nmodel_calls = 1",
            [("limits.providers.openai-chat", "is an API of `openai`; write limits.providers.openai")],
        ),
        ("[limits.tenants.a]\nsessions = true", [("limits.tenants.a.sessions", "expected `int`, got `bool`")]),
    ],
)
def test_every_mistake_is_told_with_its_path(tmp_path: Path, text: str, problems: list[tuple[str, str]]) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        resolve({}, project(tmp_path, text))
    assert invalid.value.source == str(tmp_path / PROJECT_FILE)
    assert len(invalid.value.problems) == len(problems)
    for (path, problem), (expected, beginning) in zip(invalid.value.problems, problems, strict=True):
        assert path == expected
        assert problem.startswith(beginning)


class Counting(Scripted):
    """A script that knows how often it was asked at once."""

    inside = most = 0

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(20):
            await asyncio.sleep(0)
        self.inside -= 1
        return await super().complete(request, on_text)


@pytest.mark.parametrize("store", ["memory:", "sqlite:///{}/ostler.db"])
async def test_the_limits_of_a_project_hold_for_the_worker_of_a_runtime(tmp_path: Path, store: str) -> None:
    text = "[limits.providers.scripted]\nmodel_calls = 2\n"
    settings = resolve({}, project(tmp_path, text), store=store.format(tmp_path))
    model = Counting("done")
    async with Runtime.open(settings) as runtime:
        sessions = [await runtime.start(Agent("clerk", model=model), "Go.") for _ in range(8)]
        for session in sessions:
            assert (await session.result(timeout_s=60)).text == "done"
    assert model.most == 2


async def test_the_caps_of_a_project_hold_unless_the_worker_has_its_own(tmp_path: Path) -> None:
    settings = resolve({}, project(tmp_path, "[limits.agents.clerk]\nsessions = 1\n"), store="memory:")
    for own, expected in ((NO_CAPS, 1), (Caps(queues={"clerk": 3}), 3)):
        model = Counting("done")
        async with Runtime.open(settings, worker=False) as runtime:
            sessions = [await runtime.start(Agent("clerk", model=model), "Go.") for _ in range(6)]
            await runtime.work(WorkerSettings(caps=own))
            for session in sessions:
                await session.result(timeout_s=60)
        assert model.most == expected


async def test_a_session_has_the_priority_that_it_was_started_with() -> None:
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=Scripted("done")), "Go.", priority=-3)
        await session.result()
        assert (await only(session, AgentStarted)).priority == -3
        for wrong in (1001, -1001):
            with pytest.raises(DefinitionInvalid, match="priority"):
                await runtime.start(Agent("clerk", model=Scripted("done")), "Go.", priority=wrong)


def test_the_limits_are_plain_values(tmp_path: Path) -> None:
    limits = resolve({}, project(tmp_path, ALL)).limits
    assert msgspec.json.decode(msgspec.json.encode(limits), type=type(limits)) == limits
