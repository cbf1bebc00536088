"""What every `ModelProvider` must do, as tests: subclass `ModelProviderContract` and say how to make yours.

One that sends requests over a wire subclasses `WireProviderContract`, which also looks at what it sends.
"""

import asyncio
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reasoning,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import (
    IncompleteReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    RateLimited,
)
from ostler.ports import ModelProvider


class BreaksOff(msgspec.Struct, frozen=True):
    """The provider begins with this reply and breaks off before it is complete."""

    reply: Reply


class Fails(msgspec.Struct, frozen=True):
    """The provider fails like this."""

    error: Any


class GoesQuiet(msgspec.Struct, frozen=True):
    """The provider begins with this reply and then says nothing more, without ending."""

    reply: Reply


Outcome = Reply | BreaksOff | Fails | GoesQuiet

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ = ToolSpec(name="files.read", description="Read a file.", parameters=SCHEMA, effect="read")
SEARCH = ToolSpec(name="search", description="Search the web.", parameters={"type": "object", "properties": {}})
ANSWER = Reply(
    text="Four of A-17 are left. Grüße, 世界 🌍!", usage=Usage(input_tokens=12, output_tokens=9), model="model-1"
)


CALL = AskedCall(id="one", name="files.read", arguments='{"path":"b"}')
PICTURE = b"\x89PNG\r\n\x1a\n not much of a picture \xff"
IMAGE = Image(blob="ab" * 32, size=len(PICTURE), media_type="image/png")
CONVERSATIONS = ("messages", "input", "contents")
"""What the conversation is called in the bodies of requests; whatever else is in them stands for the whole session."""


def request(**changes: Any) -> ModelRequest:
    """A question in the middle of a session, changed as given."""
    plain = ModelRequest(
        model=ModelRef(kind="live", provider="any", name="model-1"),
        system="You are a clerk.",
        messages=(
            UserMessage(text="How many A-17 are left?"),
            AssistantMessage(
                text="Let me look.", calls=(AskedCall(id="1.1", name="files.read", arguments='{"path":"a"}'),)
            ),
            ToolMessage(call="1.1", name="files.read", text='{"ok":true,"data":"4"}'),
        ),
        tools=(READ, SEARCH),
        settings=ModelSettings(timeout_s=30.0),
        key="ses_1/2",
    )
    return msgspec.structs.replace(plain, **changes)


class ModelProviderContract(ABC):
    """What every provider must do; a subclass says how its server is made to answer."""

    @abstractmethod
    def provider(self, *outcomes: Outcome) -> AbstractAsyncContextManager[ModelProvider]:
        """A provider, closed at the end, that answers the first request with the first outcome, and so on."""

    async def test_a_reply_arrives_whole(self) -> None:
        async with self.provider(ANSWER) as provider:
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_text_is_shown_as_it_arrives_and_adds_up_to_the_reply(self) -> None:
        seen: list[str] = []
        async with self.provider(ANSWER) as provider:
            await provider.complete(request(), seen.append)
        assert "".join(seen) == ANSWER.text

    async def test_no_text_is_shown_after_the_reply_and_none_out_of_order(self) -> None:
        seen: list[str] = []
        long = " ".join(map(str, range(200)))
        async with self.provider(Reply(text=long)) as provider:
            reply = await provider.complete(request(), seen.append)
            shown = list(seen)
            await asyncio.sleep(0)
        assert "".join(shown) == long == reply.text
        assert seen == shown

    async def test_a_refusal_says_that_it_is_one(self) -> None:
        async with self.provider(Reply(text="I will not.", stop="refusal")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert (reply.text, reply.stop, reply.calls) == ("I will not.", "refusal", ())

    async def test_fifty_calls_at_once_are_fifty_calls(self) -> None:
        calls = tuple([AskedCall(id=f"c{n}", name="files.read", arguments=f'{{"path":"{n}"}}') for n in range(50)])
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert [call.arguments for call in reply.calls] == [call.arguments for call in calls]

    async def test_calls_keep_their_order_names_and_arguments(self) -> None:
        calls = (
            AskedCall(id="one", name="files.read", arguments='{"path": "a b.txt", "é": [1, 2.50]}'),
            AskedCall(id="two", name="search", arguments="{}"),
            AskedCall(id="three", name="files.read", arguments='{"path":"c"}'),
        )
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert [(call.name, call.arguments) for call in reply.calls] == [(call.name, call.arguments) for call in calls]
        assert reply.stop == "tool_calls"

    async def test_arguments_that_are_no_json_arrive_as_the_model_wrote_them(self) -> None:
        calls = (AskedCall(id="one", name="search", arguments='{"query": oops'),)
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert reply.calls[0].arguments == '{"query": oops'

    async def test_a_reply_at_its_length_limit_says_so(self) -> None:
        async with self.provider(msgspec.structs.replace(ANSWER, stop="length")) as provider:
            assert (await provider.complete(request(), _ignore)).stop == "length"

    async def test_half_of_a_reply_is_never_returned(self) -> None:
        calls = (AskedCall(id="one", name="search", arguments="{}"),)
        async with self.provider(BreaksOff(Reply(text="I will", calls=calls, stop="tool_calls"))) as provider:
            with pytest.raises(IncompleteReply):
                await provider.complete(request(), _ignore)

    @pytest.mark.parametrize(
        "error",
        [
            RateLimited("Slow down.", status=429, retry_after_s=7.5),
            ProviderOverloaded("Try later.", status=503),
            ProviderRejected("No such model.", status=404),
        ],
        ids=lambda error: error.code,
    )
    async def test_a_failure_keeps_its_kind_status_and_words(self, error: ProviderError) -> None:
        async with self.provider(Fails(error)) as provider:
            with pytest.raises(type(error)) as caught:
                await provider.complete(request(), _ignore)
        assert type(caught.value) is type(error)
        assert (caught.value.message, caught.value.status) == (error.message, error.status)
        assert caught.value.retry_after_s == error.retry_after_s

    async def test_nothing_is_retried_within(self) -> None:
        async with self.provider(Fails(ProviderOverloaded("Try later.", status=503)), ANSWER) as provider:
            with pytest.raises(ProviderOverloaded):
                await provider.complete(request(), _ignore)
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_a_provider_that_goes_quiet_is_left_at_the_deadline(self) -> None:
        async with self.provider(GoesQuiet(ANSWER)) as provider:
            with pytest.raises(ProviderTimeout):
                await provider.complete(request(settings=ModelSettings(timeout_s=0.05)), _ignore)

    async def test_cancelling_ends_the_call_and_harms_no_other(self) -> None:
        has_begun = asyncio.Event()
        async with self.provider(GoesQuiet(ANSWER), ANSWER) as provider:
            call = asyncio.create_task(provider.complete(request(), lambda _: has_begun.set()))
            await has_begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_calls_at_the_same_time_get_a_reply_each(self) -> None:
        replies = [Reply(text=f"Reply {number}", model="model-1") for number in range(8)]
        async with self.provider(*replies) as provider:
            got = await asyncio.gather(*(provider.complete(request(), _ignore) for _ in replies))
        assert sorted(got, key=lambda reply: reply.text) == replies

    async def test_the_request_is_left_as_it_was(self) -> None:
        asked = request()
        before = msgspec.json.encode(asked)
        async with self.provider(ANSWER) as provider:
            await provider.complete(asked, _ignore)
        assert msgspec.json.encode(asked) == before

    async def test_closing_twice_is_no_mistake(self) -> None:
        async with self.provider(ANSWER) as provider:
            reply = await provider.complete(request(), _ignore)
            await provider.close()
            await provider.close()
        assert reply.text == ANSWER.text


class WireProviderContract(ModelProviderContract):
    """What a provider must do that sends requests over a wire; a subclass also tells what was sent."""

    @abstractmethod
    def sent(self) -> list[Any]:
        """The body of every request so far, decoded from JSON."""

    @abstractmethod
    def thought(self) -> Reasoning:
        """Something that a model of this dialect, called `model-1`, thought before it asked for a call."""

    async def body_of(self, asked: ModelRequest) -> Any:
        async with self.provider(ANSWER) as provider:
            await provider.complete(asked, _ignore)
        return self.sent()[-1]

    async def test_who_answered_is_told(self) -> None:
        async with self.provider(msgspec.structs.replace(ANSWER, model="model-1-0825", fingerprint="fp_7")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert reply.model == "model-1-0825"
        assert reply.fingerprint in ("fp_7", "")

    async def test_tokens_from_a_cache_are_counted_apart(self) -> None:
        usage = Usage(input_tokens=12, output_tokens=9, cache_read_tokens=30)
        async with self.provider(msgspec.structs.replace(ANSWER, usage=usage)) as provider:
            assert (await provider.complete(request(), _ignore)).usage == usage

    async def test_what_came_of_a_broken_reply_is_told_with_the_error(self) -> None:
        async with self.provider(BreaksOff(Reply(text="I will look. " * 1000))) as provider:
            with pytest.raises(IncompleteReply) as caught:
                await provider.complete(request(), _ignore)
        assert caught.value.partial_text.startswith("I will look. I will")
        assert 4000 <= len(caught.value.partial_text.encode()) <= 4096

    async def test_an_image_reaches_the_model_with_the_words_about_it(self) -> None:
        asked = request(messages=(UserMessage("What is it?", images=(IMAGE,)),), images={IMAGE.blob: PICTURE})
        strings = [value for value in _leaves(await self.body_of(asked)) if isinstance(value, str)]
        assert "What is it?" in strings
        assert any(string.endswith(b64encode(PICTURE).decode()) for string in strings)
        assert any("image/png" in string for string in strings)

    async def test_an_image_without_words_is_a_message_too(self) -> None:
        asked = request(messages=(UserMessage("", images=(IMAGE,)),), images={IMAGE.blob: PICTURE})
        assert b64encode(PICTURE).decode() in msgspec.json.encode(await self.body_of(asked)).decode()

    async def test_an_image_whose_bytes_are_gone_is_refused_before_anything_is_sent(self) -> None:
        async with self.provider(ANSWER) as provider:
            with pytest.raises(ProviderRejected, match="image abababababab"):
                await provider.complete(request(messages=(UserMessage("This?", images=(IMAGE,)),)), _ignore)
            assert self.sent() == []

    async def test_what_a_model_thought_is_kept_and_given_back_to_it_as_it_was(self) -> None:
        thought = self.thought()
        async with self.provider(
            Reply(text="Look.", calls=(CALL,), stop="tool_calls", reasoning=(thought,)), ANSWER
        ) as provider:
            reply = await provider.complete(request(), _ignore)
            assert reply.text == "Look."
            assert [(part.dialect, part.model) for part in reply.reasoning] == [(thought.dialect, "model-1")]
            assert reply.reasoning[0].text == thought.text
            await provider.complete(self._after(reply), _ignore)
        assert set(_words_of(thought)) <= set(_leaves(self.sent()[-1]))

    @pytest.mark.parametrize("changes", [{"dialect": "another"}, {"model": "model-2"}], ids=["dialect", "model"])
    async def test_what_another_model_thought_is_not_shown_to_it(self, changes: dict[str, str]) -> None:
        thought = msgspec.structs.replace(self.thought(), **changes)
        body = await self.body_of(self._after(Reply(text="Look.", calls=(CALL,), reasoning=(thought,))))
        assert "Look." in list(_leaves(body))
        assert not set(_words_of(thought)) & set(_leaves(body))

    async def test_an_answer_of_a_certain_shape_is_asked_for(self) -> None:
        returns = {
            "type": "object",
            "properties": {"in_stock": {"type": "integer"}},
            "required": ["in_stock"],
            "additionalProperties": False,
        }
        for tools in ((READ,), ()):
            assert "in_stock" in str(await self.body_of(request(returns=returns, tools=tools)))
        assert "in_stock" not in str(await self.body_of(request()))

    async def test_a_model_that_is_spoken_to_in_text_is_not_held_to_a_shape(self) -> None:
        """Its replies are in a grammar of ours, which says what the answer within is to be."""
        in_text = msgspec.structs.replace(request().model, tools="text")
        plain = await self.body_of(request(model=in_text))
        assert await self.body_of(request(model=in_text, returns={"type": "object", "properties": {}})) == plain

    async def test_every_effort_is_asked_for_in_its_own_way(self) -> None:
        asked = [
            request(model=ModelRef("live", "any", "model-1"), settings=ModelSettings(reasoning=effort))
            for effort in (None, "none", "low", "medium", "high")
        ]
        bodies = [msgspec.json.encode(await self.body_of(one)) for one in asked]
        assert len(set(bodies)) == len(bodies)

    async def test_a_session_goes_on_from_the_very_bytes_that_it_began_with(self) -> None:
        """What was asked before is the beginning of what is asked next, or no provider's cache is of any use."""
        reply = Reply(text="Look.", calls=(CALL,), reasoning=(self.thought(),))
        once = self._after(reply)
        again = self._after(reply, before=once)
        first, second = [_unmarked(await self.body_of(asked)) for asked in (once, again)]
        (name,) = first.keys() & set(CONVERSATIONS)
        before, after = first.pop(name), second.pop(name)
        assert first == second
        assert len(after) > len(before)
        assert msgspec.json.encode(after[: len(before)]) == msgspec.json.encode(before)

    def _after(self, reply: Reply, *, before: ModelRequest | None = None) -> ModelRequest:
        """The request that follows when the calls of this reply are done."""
        before = before or request()
        turn = len(before.messages)
        calls = [msgspec.structs.replace(call, id=f"{turn}.{n}") for n, call in enumerate(reply.calls, 1)]
        said = AssistantMessage(reply.text, tuple(calls), reply.reasoning)
        results = [ToolMessage(call.id, call.name, f'{{"ok":true,"data":{turn}}}') for call in calls]
        return msgspec.structs.replace(before, messages=(*before.messages, said, *results), key=f"ses_1/{turn}")


def _leaves(value: Any) -> Iterator[Any]:
    """Every value in a JSON document that is neither an array nor an object."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _words_of(thought: Reasoning) -> list[str]:
    """What is in it that is in nothing else."""
    return [word for word in _leaves(msgspec.json.decode(thought.raw)) if isinstance(word, str) and len(word) > 12]


def _unmarked(value: Any) -> Any:
    """The same without the marks of what is to be cached, which move on as the conversation does."""
    if isinstance(value, dict):
        return {name: _unmarked(inner) for name, inner in value.items() if name != "cache_control"}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


def _ignore(text: str) -> None:
    """For calls whose text nobody watches."""
