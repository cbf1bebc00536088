"""A store at work, as `ostler top` shows it."""

import json
from pathlib import Path

import pytest

from ostler.app.bootstrap import connect
from ostler.app.overview import Overview, Watch
from ostler.app.settings import Settings
from ostler.cli.output import console
from ostler.cli.top import screen
from ostler.domain.scheduling import ATTEMPTS_MAX
from ostler.kernel.event import StreamId
from ostler.ports import Append, Standing
from ostler.runtime.journal import Journal
from ostler.testing.contracts.streams import addition, records
from tests.cli.conftest import Ostler
from tests.servers import fresh_schema

SECOND_US = 1_000_000


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, tmp_path):
    if request.param == "sqlite":
        yield Settings(f"sqlite:///{tmp_path}/ostler.db", tmp_path)
    else:
        with fresh_schema() as url:
            yield Settings(url, tmp_path)


def drawn(seen: Overview) -> str:
    terminal = console()
    terminal.width = 200
    with terminal.capture() as captured:
        terminal.print(screen(seen, 12.0))
    return captured.get()


def test_an_empty_store_says_that_nobody_works_on_it(ostler: Ostler, project: Path) -> None:
    shown = ostler("top", "--once")
    assert shown.exit_code == 0
    assert "No worker runs on this store" in shown.stdout


def test_machines_get_the_same_as_people(ostler: Ostler, project: Path) -> None:
    ostler("worker", "--until-idle")
    seen = json.loads(ostler("top", "--json").stdout)
    assert (seen["workers"], seen["due"]) == ([], 0)
    assert {reader["name"] for reader in seen["readers"]} == {"outcomes", "sessions", "usage", "work"}


async def test_workers_queues_suspects_and_those_put_aside_are_shown(settings):
    parts = await connect(settings)
    store, now = parts.store, parts.clock.now_us()
    await store.beat("wrk_1/stable:4026/77/1", until_us=now + 20 * SECOND_US)
    for number in range(3):
        name = StreamId("default", f"ses_{number}")
        await store.append(addition(name, 0, stands=Standing("coder", "queued", now - 90 * SECOND_US, number)))
    (held,) = await store.claim("wrk_1/stable:4026/77/1", now_us=now, limit=1)
    for attempt in range(2):
        await store.claim("wrk_0/barn:4026/78/1", now_us=now + attempt, limit=1, only=StreamId("default", "ses_0"))
    parked = StreamId("default", "ses_parked")
    await store.append(Append(parked, 0, records(parked, 0), Standing("coder", "queued", now)))
    (claim,) = await store.claim("wrk_0/barn:4026/78/1", now_us=now, limit=1, only=parked)
    reason = f"parked: {ATTEMPTS_MAX} workers in a row died"
    await Journal(store).park(claim, reason, at_us=now)
    seen = await Watch(settings, parts).look()
    await parts.close()
    assert [(one.id, one.state, one.host, one.pid, one.held) for one in seen.workers] == [
        ("wrk_1", "alive", "stable", 77, 1)
    ]
    assert held.stream.name == "ses_2"
    (queue,) = seen.queues
    assert (queue.tenant, queue.agent, queue.held >= 1) == ("default", "coder", True)
    assert queue.oldest_due_s is None or queue.oldest_due_s >= 90
    assert [(one.session, one.attempts) for one in seen.suspects] == [("ses_0", 2)]
    assert [(one.session, one.status, one.reason) for one in seen.aside] == [("ses_parked", "paused", reason)]
    assert "ostler resume" in seen.aside[0].todo
    text = drawn(seen)
    for word in ("wrk_1", "alive", "stable", "coder", "ses_0", "ses_parked", reason, "ostler resume", "12 a second"):
        assert word in text
