"""Each turn is encoded once, and no request is other for it."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.adapters.providers import dialect as dialects
from ostler.adapters.providers.dialect import EarlierTurns, Encode, WireNames
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
    Message,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reasoning,
    Reply,
    ToolMessage,
    UserMessage,
)
from ostler.domain.tool import ToolSpec
from ostler.domain.transcript import Transcript
from ostler.kernel.errors import ProviderError
from ostler.testing.wire import Asked, WireServer, stream
from tests.adapters.providers.conftest import Reach
from tests.adapters.providers.recorded import DIALECTS, EVENT_STREAM, KEY, ignore

PICTURES = {"ab": b"\x89PNG\r\n\x1a\n one", "cd": b"\xff\xd8\xff another"}
IMAGES = [Image(blob, len(body), "image/png") for blob, body in PICTURES.items()]
TOOLS = ["a.b", "a/b", "search"]
UNKNOWN = ["a__b", "a b", "gone!"]
MODELS = ["gemini-2.5-flash", "gemini-3.8-flash"]
THOUGHTS = [
    ("anthropic", '{"type":"thinking","thinking":"Look.","signature":"c2ln"}'),
    ("anthropic", '{"block":{"type":"redacted_thinking","data":"ZGF0YQ=="},"text":2,"calls":0}'),
    ("openai-chat", '{"reasoning_content":"Look."}'),
    ("openai-responses", '{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"Z0FB"}'),
    ("openai-responses", '{"type":"message","characters":3,"phase":"commentary"}'),
    ("openai-responses", '{"type":"function_call","calls":1}'),
    ("google", '{"thoughtSignature":"c2ln","call":0,"id":"theirs"}'),
    ("google", '{"thoughtSignature":"c2ln","at":0,"characters":2}'),
    ("google", '{"thought":true,"thoughtSignature":"c2ln"}'),
]

texts = st.sampled_from(["", " \n", "Go.", 'Grüße, "世界" 🌍'])
names = st.sampled_from([*TOOLS, *UNKNOWN])
ids = st.sampled_from(["1.1", "1.2", "2.1"])
thoughts = st.builds(
    lambda thought, model: Reasoning(thought[0], model, thought[1], "Look."),
    st.sampled_from(THOUGHTS),
    st.sampled_from(MODELS),
)
calls = st.builds(AskedCall, ids, names, st.sampled_from(["{}", '{"a": 1.50}', "[1]", '{"a": ']))
users = st.builds(UserMessage, texts, st.lists(st.sampled_from(IMAGES), max_size=1).map(tuple))
replies = st.builds(
    AssistantMessage, texts, st.lists(calls, max_size=2).map(tuple), st.lists(thoughts, max_size=2).map(tuple)
)
results = st.builds(ToolMessage, ids, names, st.sampled_from(['{"ok":true,"data":"4"}', "4"]), st.booleans())
turns = st.builds(lambda reply, result: [reply, result], replies, results)
pieces = st.lists(st.one_of(turns, turns, turns, st.lists(st.one_of(users, replies, results), max_size=2)), max_size=8)
said: st.SearchStrategy[list[Message]] = pieces.map(lambda lists: [message for each in lists for message in each])


class Step(msgspec.Struct, frozen=True):
    """One request more in a session: what came to be said since, after this share of what was said stays.

    `cut` is where a message in the middle goes (a compaction), None if all stay.
    """

    session: int
    said: list[Message]
    stays: float
    cut: int | None
    model: str
    tools: int
    images: bool


steps = st.builds(
    Step,
    session=st.integers(0, 1),
    said=said,
    stays=st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.9, 0.5, 0.0]),
    cut=st.one_of(st.none(), st.none(), st.none(), st.integers(0, 9)),
    model=st.sampled_from([MODELS[0], *MODELS]),
    tools=st.sampled_from([3, 3, 3, 2]),
    images=st.sampled_from([True, True, True, True, False]),
)


class Anew(EarlierTurns):
    """Encodes all turns of every request at one go, as if there had been no other."""

    def encoded(self, request: ModelRequest, encode: Encode) -> tuple[list[Any], WireNames]:
        names = WireNames(tool.name for tool in request.tools)
        return list(encode(request, request.messages, names)), names


def asked(messages: Sequence[Message], **changes: Any) -> ModelRequest:
    model = ModelRef("live", "any", changes.pop("model", MODELS[0]))
    tools = tuple(ToolSpec(name, "Do it.", {"type": "object"}) for name in changes.pop("tools", TOOLS))
    plain = ModelRequest(model, "You look.", messages, tools, ModelSettings(), "ses_1/2", PICTURES)
    return msgspec.structs.replace(plain, **changes)


def requests(history: list[Step]) -> Iterator[ModelRequest]:
    """Interleaved sessions, with transcripts that share their past as those of states do."""
    sessions = [Transcript([UserMessage("Look.")])] * 2
    for step in history:
        before = sessions[step.session]
        kept = before if step.stays == 1.0 else Transcript(before[: int(len(before) * step.stays)])
        if step.cut is not None and len(kept) > step.cut:
            kept = Transcript([*kept[: step.cut], *kept[step.cut + 1 :]])
        sessions[step.session] = now = kept.plus(*step.said)
        images = PICTURES if step.images else {}
        key = f"ses_{step.session}/2"
        yield asked(now, key=key, model=step.model, tools=TOOLS[: step.tools], images=images)


def overheard(dialect: str, earlier: EarlierTurns, bodies: list[bytes]) -> Any:
    """A provider that is answered with a call of every name there may be."""
    written = [AskedCall(f"{number}", name, "{}") for number, name in enumerate(["a__b", "a__b_2", "a__b_3", "gone__"])]
    reply = Reply("Go.", tuple(written), "tool_calls")

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        sent = Asked("POST", request.url.raw_path.decode(), {}, request.content)
        return httpx2.Response(200, headers=EVENT_STREAM, content=b"".join(stream(reply, sent)))

    provider: Any = DIALECTS[dialect](api_key=KEY, transport=httpx2.MockTransport(answer))
    assert isinstance(provider._earlier, EarlierTurns), "or what follows compares nothing"
    provider._earlier = earlier
    return provider


async def outcome(provider: Any, request: ModelRequest) -> Reply | str:
    try:
        reply: Reply = await provider.complete(request, ignore)
    except ProviderError as error:
        return str(error)
    return reply


@pytest.mark.parametrize("dialect", DIALECTS)
@given(history=st.lists(steps, min_size=2, max_size=7))
@settings(max_examples=60)
def test_what_is_kept_changes_no_byte_of_a_request_and_no_name_in_its_reply(dialect: str, history: list[Step]):
    assert asyncio.run(differing(dialect, requests(history))) == []


async def differing(dialect: str, sent: Iterable[ModelRequest]) -> list[int]:
    """Ask the same of a provider that keeps earlier turns and of one that does not: which requests came out otherwise.

    What is sent and what is made of the reply both count.
    """
    bodies: tuple[list[bytes], list[bytes]] = ([], [])
    keeping, anew = overheard(dialect, EarlierTurns(), bodies[0]), overheard(dialect, Anew(), bodies[1])
    found = []
    for number, request in enumerate(sent):
        same = await outcome(keeping, request) == await outcome(anew, request)
        if not same or bodies[0] != bodies[1]:
            found.append(number)
    await keeping.close()
    await anew.close()
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_names_of_a_future_that_did_not_come_are_forgotten(dialect: str):
    past = conversation(20)
    futures = [AssistantMessage("", (AskedCall("20.1", name, "{}"),)) for name in UNKNOWN[:2]]
    assert await differing(dialect, [asked([*past, future, ToolMessage("20.1", "a", "4")]) for future in futures]) == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_id_of_a_future_that_did_not_come_is_forgotten(dialect: str):
    past, result = conversation(20), ToolMessage("20.1", "search", "4")
    kept = Reasoning("google", MODELS[0], '{"thoughtSignature":"c2ln","call":0,"id":"theirs"}')
    future = AssistantMessage("", (AskedCall("20.1", "search", "{}"),), (kept,))
    assert (
        await differing(dialect, [asked([*past, future, result]), asked([*past, AssistantMessage("Go."), result])])
        == []
    )


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_turn_that_goes_on_in_another_way_is_whole(dialect: str):
    messages = conversation(20)
    futures: list[list[Message]] = [
        [UserMessage("Wait!")],
        [ToolMessage("x", "search", "5")],
        [AssistantMessage("")],
        messages[35:],
    ]
    forks = (asked([*messages[:end], *future, *messages[-12:]]) for end in range(25, 41) for future in futures)
    assert await differing(dialect, (request for fork in forks for request in (asked(messages), fork))) == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_server_is_sent_the_same_by_a_provider_that_knows_the_session_and_by_one_that_does_not(
    dialect: str, server: WireServer, reach: Reach
):
    knowing = reach(dialect, server.url)
    for length in range(1, 24):
        request = asked(conversation(length))
        for provider in (knowing, reach(dialect, server.url)):
            server.answers(Reply("Go on."))
            await provider.complete(request, ignore)
        assert server.asked[-1].body == server.asked[-2].body


def conversation(steps: int, result: str = "4") -> list[Message]:
    messages: list[Message] = [UserMessage("Look.")]
    for step in range(steps):
        messages.append(AssistantMessage("I look.", (AskedCall(f"{step}.1", "search", "{}"),)))
        messages.append(ToolMessage(f"{step}.1", "search", result))
    return messages


class Counted:
    """Encodes each message as its text, and counts them."""

    def __init__(self) -> None:
        self.messages = 0

    def __call__(self, request: ModelRequest, messages: Sequence[Message], names: WireNames) -> list[str]:
        self.messages += len(messages)
        return [message.text for message in messages]


def newly_encoded(earlier: EarlierTurns, request: ModelRequest) -> int:
    """How many messages of a request had to be encoded."""
    counted = Counted()
    items, _ = earlier.encoded(request, counted)
    assert msgspec.json.decode(msgspec.json.encode(items)) == [message.text for message in request.messages]
    return counted.messages


def test_a_request_encodes_only_the_last_turns_however_long_the_session():
    earlier, messages = EarlierTurns(), conversation(300)
    encoded = [newly_encoded(earlier, asked(messages[: 1 + 2 * step])) for step in range(1, 301)]
    assert max(encoded) <= 8
    assert newly_encoded(earlier, asked(messages)) <= 6  # the next attempt


def test_a_session_that_was_folded_anew_goes_on_where_it_was():
    earlier, messages = EarlierTurns(), conversation(100)
    newly_encoded(earlier, asked(messages))
    again = msgspec.json.decode(msgspec.json.encode(messages), type=list[Message])
    assert again[0] is not messages[0]
    assert newly_encoded(earlier, asked(again)) <= 6


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "ses_2/2"},
        {"model": "another"},
        {"tools": TOOLS[:1]},
        {"messages": [UserMessage("Look again."), *conversation(100)[1:]]},
        {"messages": conversation(99)[:-20]},
    ],
)
def test_what_does_not_begin_as_the_request_before_is_encoded_anew(changes: dict[str, Any]):
    earlier = EarlierTurns()
    newly_encoded(earlier, asked(conversation(100)))
    other = asked(**{"messages": conversation(100)} | changes)
    assert newly_encoded(earlier, other) == len(other.messages)


def test_a_picture_that_did_not_come_with_the_request_is_not_taken_from_the_one_before():
    earlier = EarlierTurns()
    messages = [UserMessage("Look.", (IMAGES[0],)), *conversation(20)[1:]]
    newly_encoded(earlier, asked(messages))
    assert newly_encoded(earlier, asked(messages)) < len(messages)
    assert newly_encoded(earlier, asked(messages, images={"cd": b""})) == len(messages)


def test_sessions_that_were_asked_for_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialects, "KEPT_SESSIONS_MAX", 2)
    earlier, messages = EarlierTurns(), conversation(20)
    for session in "aba":
        newly_encoded(earlier, asked(messages, key=f"{session}/1"))
    newly_encoded(earlier, asked(messages, key="c/1"))
    assert newly_encoded(earlier, asked(messages, key="a/1")) < len(messages)
    assert newly_encoded(earlier, asked(messages, key="b/1")) == len(messages)


def test_no_more_bytes_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dialects, "KEPT_BYTES_MAX", 100_000)
    earlier, messages = EarlierTurns(), conversation(40, "x" * 1_000)
    for session in "abc":
        newly_encoded(earlier, asked(messages, key=f"{session}/1"))
    assert newly_encoded(earlier, asked(messages, key="c/1")) < len(messages)
    assert newly_encoded(earlier, asked(messages, key="b/1")) < len(messages)
    assert newly_encoded(earlier, asked(messages, key="a/1")) == len(messages)
    large = asked(conversation(200, "x" * 1_000), key="d/1")
    assert [newly_encoded(earlier, large) for _ in range(2)] == [len(large.messages)] * 2


def test_a_request_that_cannot_be_encoded_leaves_nothing_behind():
    def fail(request: ModelRequest, messages: Sequence[Message], names: WireNames) -> Iterator[str]:
        yield names.wire("a.b")
        raise ProviderError("no")

    earlier, messages = EarlierTurns(), conversation(20)
    newly_encoded(earlier, asked(messages[:-8]))
    with pytest.raises(ProviderError):
        earlier.encoded(asked(messages), fail)
    assert newly_encoded(earlier, asked(messages)) == len(messages)
