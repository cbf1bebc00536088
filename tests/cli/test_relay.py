"""Relays on the command line, as real processes: they hand over, stop when told, and show what they left out."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ostler.cli import cli
from tests.adapters.bus.receiver import Answer, Post, Receiver
from tests.tidy.rules import ROOT

RELAY = """
[relays.hook]
to = "{url}"
types = ["agent.*", "model.*"]

[relays.away]
to = "redis://anna:hunter2@127.0.0.1:1"
"""


@pytest.fixture
async def receiver(project: Path) -> AsyncIterator[Receiver]:
    """Takes what the relay `hook` of the project hands over."""
    receiver = await Receiver.start()
    file = project / "ostler.toml"
    file.write_text(file.read_text() + RELAY.format(url=receiver.url))
    yield receiver
    await receiver.close()


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One command line in a process of its own, which does not outlive the test."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.cli.play",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def ostler(*arguments: str) -> tuple[int, str, str]:
    """The exit code of a command, what it printed and what it said. What needs no signals runs in this process."""
    if arguments[0] == "relays":
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments, prog_name="ostler")
        return result.exit_code, result.stdout, result.stderr
    async with process(*arguments) as running:
        printed, said = await running.communicate()
        assert running.returncode is not None
        return running.returncode, printed.decode(), said.decode()


async def until(running: asyncio.subprocess.Process, word: str) -> str:
    assert running.stderr is not None
    said = ""
    while line := (await running.stderr.readline()).decode():
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word!r} was never said, but: {said}")


def types(posts: list[Post]) -> list[str]:
    return [json.loads(post.body)["type"].removeprefix("dev.ostler.") for post in posts]


async def relays() -> dict[str, dict[str, object]]:
    code, printed, said = await ostler("relays", "--json")
    assert (code, said) == (0, "")
    return {one["name"]: one for one in json.loads(printed)}


async def test_everything_of_the_types_is_handed_over_and_only_once(receiver: Receiver) -> None:
    await ostler("run", "clerk", "answer")
    assert (await relays())["hook"]["begun"] is False
    code, printed, said = await ostler("relay", "hook", "--until-idle")
    assert (code, printed) == (0, "")
    assert said.splitlines()[0] == f"hook: to {receiver.url}"
    assert said.endswith("Everything is handed over.\nhook: stopped\nStopped.\n")
    assert types(receiver.posts) == ["agent.started", "model.requested", "model.completed", "agent.completed"]
    assert (await ostler("relay", "hook", "--until-idle"))[0] == 0
    assert len(receiver.posts) == 4
    hook = (await relays())["hook"]
    assert (hook["begun"], hook["lag"], hook["dead_letters"]) == (True, 0, 0)


async def test_a_relay_follows_the_log_until_it_is_told_to_stop(receiver: Receiver) -> None:
    async with process("relay", "hook") as running:
        await until(running, "hook: following")
        await ostler("run", "clerk", "answer")
        await receiver.until(lambda receiver: types(receiver.posts)[-1:] == ["agent.completed"])
        running.send_signal(signal.SIGTERM)
        assert "A second signal" in await until(running, "Stopping.")
        await until(running, "Stopped.")
        assert await running.wait() == 0
    assert (await relays())["hook"]["lag"] == 0


async def test_a_relay_may_be_sent_back_to_any_position(receiver: Receiver) -> None:
    await ostler("run", "clerk", "answer")
    await ostler("relay", "hook", "--from", "end", "--until-idle")
    assert receiver.posts == []
    code, _, said = await ostler("relay", "hook", "--from", "start", "--until-idle")
    assert (code, "hook: goes on from position 0" in said) == (0, True)
    assert len(receiver.posts) == 4
    code, _, said = await ostler("relay", "hook", "--from", "yesterday")
    assert (code, "neither a number nor" in said) == (2, True)


async def test_a_refused_event_waits_as_a_dead_letter_until_it_is_handed_over_again(receiver: Receiver) -> None:
    receiver.answer = lambda post: Answer(422, body=b"no model") if b"model.completed" in post.body else Answer()
    await ostler("run", "clerk", "answer")
    code, _, said = await ostler("relay", "hook", "--until-idle")
    assert (code, "HTTP status 422: no model" in said) == (0, True)
    assert types(receiver.posts) == ["agent.started", "model.requested", "agent.completed"]
    code, printed, said = await ostler("relays", "dead", "hook")
    assert (code, "no model" in printed, "ostler relays retry hook" in said) == (0, True, True)
    (letter,) = json.loads((await ostler("relays", "dead", "hook", "--json"))[1])

    code, _, said = await ostler("relays", "retry", "hook")
    assert (code, "0 handed over, 1 not" in said) == (1, True)
    receiver.answer = lambda post: Answer()
    code, printed, _ = await ostler("relays", "retry", "hook", str(letter["position"]), "--json")
    assert (code, json.loads(printed)) == (0, {"delivered": 1, "failed": 0, "reason": ""})
    assert types(receiver.posts)[-1] == "model.completed"
    assert (await relays())["hook"]["dead_letters"] == 0
    assert "handed over everything" in (await ostler("relays", "dead", "hook"))[2]


async def test_a_target_that_does_not_answer_is_waited_for_and_named_without_credentials(receiver: Receiver) -> None:
    await ostler("run", "clerk", "answer")
    async with process("relay", "away") as running:
        said = await until(running, "Work goes on by itself")
        assert "Warning: " in said
        assert "away: waiting" in said
        assert "redis://127.0.0.1:1 cannot be reached" in said
        running.send_signal(signal.SIGINT)
        said += await until(running, "Stopped.")
        assert await running.wait() == 0
    code, printed, _ = await ostler("relays")
    assert (code, "redis://127.0.0.1:1" in printed) == (0, True)
    assert "hunter2" not in said + printed
    assert (await relays())["away"]["position"] == 0


async def test_what_is_not_configured_is_said_with_what_to_do(project: Path) -> None:
    code, _, said = await ostler("relay")
    assert (code, "No relays are configured" in said, "[relays.NAME]" in said) == (2, True, True)
    code, _, said = await ostler("relays", "--json")
    assert (code, json.loads(said)["error"]["code"]) == (2, "configuration")


async def test_an_unknown_relay_is_not_found(receiver: Receiver) -> None:
    code, _, said = await ostler("relay", "hok")
    assert (code, "Did you mean 'hook'?" in said) == (7, True)
