"""Functions as models."""

import pytest

from ostler.adapters.providers.strategy import StrategyProvider
from ostler.domain.model import AskedCall, ModelRef, ModelRequest, ModelSettings, Reply, Usage, UserMessage
from ostler.kernel.errors import ProviderRejected


def asked(name: str) -> ModelRequest:
    return ModelRequest(
        ModelRef("strategy", "strategy", name), "", [UserMessage("hello")], (), ModelSettings(), "ses_1/1"
    )


def echo(request: ModelRequest) -> Reply:
    return Reply(text=f"you said {request.messages[0].text}")


def silent(request: ModelRequest) -> Reply:
    return Reply(text="", calls=(AskedCall("1", "clock", "{}"),), stop="tool_calls", model="silent-2")


@pytest.fixture
def provider() -> StrategyProvider:
    return StrategyProvider({"echo": echo, "silent": silent})


async def test_the_name_of_the_model_selects_the_function(provider: StrategyProvider) -> None:
    heard: list[str] = []
    reply = await provider.complete(asked("echo"), heard.append)
    assert reply == Reply(text="you said hello", model="echo")
    assert heard == ["you said hello"]


async def test_a_reply_without_text_is_not_heard_and_keeps_its_calls_and_its_model(provider: StrategyProvider) -> None:
    heard: list[str] = []
    reply = await provider.complete(asked("silent"), heard.append)
    assert (reply.calls[0].name, reply.stop, reply.model) == ("clock", "tool_calls", "silent-2")
    assert heard == []


async def test_no_tokens_are_claimed(provider: StrategyProvider) -> None:
    assert (await provider.complete(asked("echo"), print)).usage == Usage()


async def test_an_unknown_strategy_is_rejected_with_the_names_of_those_there_are(provider: StrategyProvider) -> None:
    with pytest.raises(ProviderRejected) as caught:
        await provider.complete(asked("ehco"), print)
    assert "did you mean 'echo'?" in caught.value.message
    assert caught.value.hint == "Strategies here: echo, silent."
    assert not caught.value.retryable


async def test_an_error_of_the_function_is_not_hidden() -> None:
    def broken(request: ModelRequest) -> Reply:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await StrategyProvider({"broken": broken}).complete(asked("broken"), print)
