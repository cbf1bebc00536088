"""Recorded exchanges: a model that answered once answers again, from a file, to the same question."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.providers.openai import OpenAI
from ostler.adapters.providers.recorded import Exchange, Recorded, Recording, as_recorded, differences, digest_of
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Message,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reasoning,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.kernel.errors import ConfigurationError, ProviderRejected
from ostler.testing.contracts.model_provider import ANSWER, IMAGE, READ, SEARCH, request
from ostler.testing.wire import WireServer

KEY = "sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"
SESSION = "ses_01jd3yxm5qv9t8w7r6p5n4k3h2"
OTHER = "ses_01jdzzzzzzzzzzzzzzzzzzzzzz"


@asynccontextmanager
async def recording(path: Path, *replies: Reply) -> AsyncIterator[Recording]:
    """A provider over the network, recorded."""
    async with WireServer() as server:
        server.answers(*replies)
        provider = Recording(OpenAI(base_url=server.url, api_key=KEY), path)
        try:
            yield provider
        finally:
            await provider.close()


async def recorded(path: Path, *exchanges: tuple[ModelRequest, Reply]) -> Recorded:
    async with recording(path, *(reply for _, reply in exchanges)) as provider:
        for asked, reply in exchanges:
            assert (await provider.complete(asked, ignore)).text == reply.text
    return Recorded(path)


def ignore(text: str) -> None:
    """For replies whose text nobody watches."""


def saying(*texts: str, **more: Any) -> ModelRequest:
    return request(messages=tuple(UserMessage(text) for text in texts), **more)


CALLS = Reply("Look.", (AskedCall("one", "files.read", '{"path":"b"}'),), "tool_calls", Usage(3, 4), "model-1")


async def test_what_was_recorded_is_replied_again_whole_and_shown_as_text(tmp_path: Path) -> None:
    seen: list[str] = []
    provider = await recorded(tmp_path / "a.jsonl", (saying("Hi."), ANSWER), (saying("Look."), CALLS))
    assert await provider.complete(saying("Look."), seen.append) == CALLS
    assert await provider.complete(saying("Hi."), seen.append) == ANSWER
    assert seen == [CALLS.text, ANSWER.text]


async def test_a_line_is_the_request_without_what_differs_from_run_to_run_and_the_reply(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await recorded(path, (request(), CALLS))
    (line,) = path.read_bytes().splitlines()
    exchange = msgspec.json.decode(line)
    assert exchange == {
        "digest": digest_of(as_recorded(request())),
        "asked": {
            "model": "any:model-1",
            "system": "You are a clerk.",
            "messages": [
                {"role": "user", "text": "How many A-17 are left?"},
                {
                    "role": "assistant",
                    "text": "Let me look.",
                    "calls": [{"id": "1", "name": "files.read", "arguments": '{"path":"a"}'}],
                },
                {"role": "tool", "call": "1", "name": "files.read", "text": '{"ok":true,"data":"4"}'},
            ],
            "tools": [
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
                for tool in (READ, SEARCH)
            ],
            "tool_calling": "native",
        },
        "reply": msgspec.json.decode(msgspec.json.encode(CALLS)),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"key": f"{OTHER}/17"},
        {"settings": ModelSettings(timeout_s=1.0, max_tokens=7)},
        {"model": ModelRef("recorded", "any", "model-1", base_url="http://elsewhere", dialect="google")},
    ],
    ids=["key", "limits", "address"],
)
async def test_what_differs_from_run_to_run_does_not_matter(changes: dict[str, Any], tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (request(), ANSWER))
    assert await provider.complete(request(**changes), ignore) == ANSWER


def conversation(session: str, at: str, first: int, thought: str) -> ModelRequest:
    """The same conversation in another session, at another time, whose calls have other numbers."""
    calls = (AskedCall(f"{first}.1", "files.read", '{"path":"a"}'), AskedCall(f"{first}.2", "search", "{}"))
    return request(
        messages=(
            UserMessage(f"It is {at}, in {session}."),
            AssistantMessage("", calls, (Reasoning("anthropic", "m", thought),)),
            ToolMessage(f"{first}.2", "search", f'{{"ok":true,"data":"{session} began at {at}"}}'),
            ToolMessage(f"{first}.1", "files.read", '{"ok":true,"data":"3d5f1a3e-0b1c-4d2e-8f3a-9b8c7d6e5f4a"}'),
        ),
        key=f"{session}/2",
    )


async def test_ids_times_and_the_numbers_of_calls_do_not_matter(tmp_path: Path) -> None:
    once = conversation(SESSION, "2026-11-21T09:00:00.123Z", 1, '{"a":1}')
    again = conversation(OTHER, "2031-01-01 23:59:59+02:00", 7, '{"b":2}')
    provider = await recorded(tmp_path / "a.jsonl", (once, ANSWER))
    assert await provider.complete(again, ignore) == ANSWER


async def test_which_id_is_which_does_matter(tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (saying(f"{SESSION} asked {OTHER}, not {SESSION}"), ANSWER))
    assert await provider.complete(saying(f"{OTHER} asked {SESSION}, not {OTHER}"), ignore) == ANSWER
    with pytest.raises(ProviderRejected):
        await provider.complete(saying(f"{OTHER} asked {SESSION}, not {SESSION}"), ignore)


async def test_the_same_question_gets_its_replies_in_their_order_and_then_the_last(tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", *[(request(), Reply(text)) for text in ("one", "two")])
    assert [(await provider.complete(request(), ignore)).text for _ in range(3)] == ["one", "two", "two"]


async def test_what_fails_is_not_recorded(tmp_path: Path) -> None:
    async with recording(tmp_path / "a.jsonl") as provider:
        with pytest.raises(Exception, match="gave no answer"):
            await provider.complete(request(), ignore)
    assert not (tmp_path / "a.jsonl").exists()


async def test_no_secret_is_ever_written_and_what_is_replied_leads_to_the_same_next_request(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
    first = saying(f"My key is {KEY}.", system=f"Use {KEY}.")
    reply = Reply(
        f"I use {secret}.",
        (AskedCall("one", "files.read", f'{{"path":"{secret}"}}'),),
        "tool_calls",
        reasoning=(Reasoning("openai-chat", "m", f'{{"reasoning":"{secret}"}}', secret),),
    )

    def after(reply: Reply) -> ModelRequest:
        said = AssistantMessage(reply.text, reply.calls)
        return request(messages=(UserMessage(f"My key is {KEY}."), said, ToolMessage("one", "files.read", secret)))

    provider = await recorded(path, (first, reply), (after(reply), ANSWER))
    written = path.read_text()
    assert secret not in written
    assert KEY not in written
    replayed = await provider.complete(first, ignore)
    assert replayed.text == "I use [redacted:secret.github]."
    assert await provider.complete(after(replayed), ignore) == ANSWER


# What was never asked


async def refused(provider: Recorded, asked: ModelRequest) -> str:
    with pytest.raises(ProviderRejected) as caught:
        await provider.complete(asked, ignore)
    assert "OSTLER_RECORD" in caught.value.hint
    return caught.value.message


async def test_the_nearest_recorded_request_is_named_with_what_differs(tmp_path: Path) -> None:
    provider = await recorded(
        tmp_path / "stock.jsonl", (saying("How many B-3?"), ANSWER), (request(), ANSWER), (saying("Hello."), ANSWER)
    )
    asked = msgspec.structs.replace(
        request(), messages=(*request().messages[:2], ToolMessage("1.1", "files.read", '{"ok":true,"data":"5"}'))
    )
    message = await refused(provider, asked)
    assert message.splitlines() == [
        "stock.jsonl has no reply to this request. The nearest is that of line 2; it differs in",
        """  message 3 (tool files.read), text: recorded '{"ok":true,"data":"4"}', here '{"ok":true,"data":"5"}'""",
    ]


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"system": "You are a cook."}, "system: recorded 'You are a clerk.', here 'You are a cook.'"),
    ({"tools": (READ,)}, "tool search: is not offered here"),
    ({"tools": (READ, SEARCH, msgspec.structs.replace(READ, name="b"))}, "tool b: was not offered"),
    ({"tools": (SEARCH, READ)}, "tools: come in another order"),
    ({"tools": (READ, msgspec.structs.replace(SEARCH, description="Find."))}, "tool search, description: recorded 'Se"),
    ({"model": ModelRef("live", "any", "model-2")}, "model: recorded 'any:model-1', here 'any:model-2'"),
    ({"settings": ModelSettings(temperature=0.5)}, "temperature: recorded 'null', here '0.5'"),
    ({"messages": request().messages[:2]}, "message 3 (tool files.read): missing here"),
    ({"messages": (*request().messages, UserMessage("And?"))}, "message 4 (user): one more here: 'And?'"),
    (
        {"messages": (AssistantMessage("Hm."), *request().messages[1:])},
        "message 1: recorded was user, here is assistant",
    ),
    ({"messages": (UserMessage("How many A-17 are left?", (IMAGE,)), *request().messages[1:])}, "message 1 (user), im"),
    ({"returns": {"type": "object"}}, "returns: recorded 'null', here '{\"type\":\"object\"}'"),
]


@pytest.mark.parametrize(("changes", "says"), CHANGES)
async def test_every_difference_is_told_in_words(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (request(), ANSWER))
    assert says in await refused(provider, request(**changes))


async def test_of_many_differences_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (saying(*"abcdefghi"), ANSWER))
    lines = (await refused(provider, saying(*"123456789"))).splitlines()
    assert len(lines) == 1 + 6 + 1
    assert lines[-1].strip() == "and 3 more"


async def test_long_texts_are_shown_where_they_part(tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (saying("x" * 5000 + "yes" + "z" * 5000), ANSWER))
    message = await refused(provider, saying("x" * 5000 + "no" + "z" * 5000))
    assert "xxyes" in message
    assert "xxno" in message
    assert len(message) < 400


# The file


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no recording"), (b"", "empty"), (b"{}\n", "Line 1"), (b'{"digest": "cut', "empty")],
)
def test_a_file_that_is_no_recording_is_refused_and_says_why(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        Recorded(path)


async def test_a_line_whose_request_is_not_the_one_that_was_recorded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await recorded(path, (request(), ANSWER))
    for damage in ((b'"model":"any:model-1"', b'"modal":"any:model-1"'), (b'"role":"user"', b'"role":"abuser"')):
        assert damage[0] in path.read_bytes()
        other = tmp_path / "b.jsonl"
        other.write_bytes(path.read_bytes().replace(*damage))
        with pytest.raises(ConfigurationError, match="Line 1"):
            Recorded(other)


async def test_a_line_that_was_being_written_when_the_process_died_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await recorded(path, (request(), ANSWER), (saying("Hi."), ANSWER))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole), 97):
        path.write_bytes(whole[:end])
        assert await Recorded(path).complete(request(), ignore) == ANSWER


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    for path in (tmp_path / "no such folder" / "a.jsonl", tmp_path):
        with pytest.raises(ConfigurationError, match="recorded"):
            Recording(OpenAI(api_key=KEY), path)


async def test_a_recording_is_for_nobody_but_its_owner_and_a_file_that_went_bad_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    await recorded(path, (request(), ANSWER))
    assert path.stat().st_mode & 0o777 == 0o600
    async with recording(path, ANSWER) as provider:
        path.unlink()
        path.mkdir()
        with pytest.raises(ConfigurationError, match=r"a\.jsonl: Is a directory"):
            await provider.complete(request(), ignore)


async def test_the_models_of_a_recording_are_known(tmp_path: Path) -> None:
    provider = await recorded(tmp_path / "a.jsonl", (request(), ANSWER), (saying("Hi."), ANSWER))
    assert provider.models == ["any:model-1"]


# For all requests

TEXTS = st.text(max_size=20) | st.sampled_from([SESSION, OTHER, "2026-11-21T09:00:00Z", f"key {KEY}", '{"a": 1.50}'])
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(UserMessage, TEXTS),
    st.builds(AssistantMessage, TEXTS, st.lists(st.builds(AskedCall, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple)),
    st.builds(ToolMessage, TEXTS, TEXTS, TEXTS, st.booleans()),
)
CONVERSATIONS = st.lists(MESSAGES, max_size=4).map(tuple)


@given(CONVERSATIONS, CONVERSATIONS)
def test_two_requests_have_one_digest_exactly_if_nothing_is_told_to_differ(
    before: tuple[Message, ...], now: tuple[Message, ...]
) -> None:
    old, new = as_recorded(request(messages=before)), as_recorded(request(messages=now))
    assert (digest_of(old) == digest_of(new)) == (not list(differences(old, new)))


@given(CONVERSATIONS, st.lists(st.builds(AskedCall, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple), TEXTS)
def test_an_exchange_is_read_as_it_was_written(
    messages: tuple[Message, ...], calls: tuple[AskedCall, ...], text: str
) -> None:
    asked = as_recorded(request(messages=messages))
    line = msgspec.json.encode(Exchange(digest_of(asked), asked, Reply(text, calls)))
    read = msgspec.json.decode(line, type=Exchange)
    assert b"\n" not in line
    assert digest_of(read.asked) == read.digest
    assert read.reply == Reply(text, calls)
