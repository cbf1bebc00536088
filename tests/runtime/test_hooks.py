"""Hooks are asked in order; one that fails, is slow, or is not there denies, and nobody waits for it."""

import asyncio
import functools
import threading
from typing import Any

import pytest

from ostler.adapters.tools.thread import in_thread
from ostler.domain.hook import (
    Ask,
    Continue,
    Deny,
    Ending,
    ModelAsked,
    Rewrite,
    Ruling,
    ToolAnswered,
    ToolAsked,
    combine,
    digest_of,
)
from ostler.domain.model import UserMessage
from ostler.kernel.errors import DefinitionInvalid, UsageError
from ostler.runtime.hooks import Hook, Hooks, hook

ABOUT: Any = {"session": "ses_1", "tenant": "default", "agent": "payer@1"}
PAY = ToolAsked(**ABOUT, call="1.1", tool="pay", arguments={"amount": 5, "to": {"name": "bob"}})


def made(function, point="pre_tool", name="h", timeout_s=60.0) -> Hook:
    return hook(point, name=name, timeout_s=timeout_s)(function)


def known(*hooks: Hook, **more) -> Hooks:
    return Hooks(hooks, in_thread=in_thread, **more)


async def said(function, **more) -> Ruling:
    """What one hook says of a payment."""
    (ruling,) = await known(made(function, **more)).ask("pre_tool", PAY, ["h"])
    return ruling


# Answers


@pytest.mark.parametrize("answer", [Continue(), Deny("no"), Ask("ok?")])
async def test_what_a_hook_says_is_what_is_ruled(answer) -> None:
    async def later(subject):
        return answer

    assert await said(lambda subject: answer) == Ruling("h", "pre_tool", answer)
    assert await said(later) == Ruling("h", "pre_tool", answer)
    assert await said(functools.partial(lambda extra, subject: later(subject), 1)) == Ruling("h", "pre_tool", answer)


async def test_a_rewrite_is_seen_by_the_next_hook_and_both_values_are_told_apart() -> None:
    seen = []

    def halve(subject):
        seen.append(subject.arguments["amount"])
        return Rewrite({**subject.arguments, "amount": subject.arguments["amount"] / 2}, "half will do")

    hooks = known(made(halve, name="a"), made(halve, name="b"))
    rulings = await hooks.ask("pre_tool", PAY, ["a", "b"])
    assert seen == [5, 2.5]
    assert [ruling.hook for ruling in rulings] == ["a", "b"]
    assert rulings[0].before == digest_of(PAY.arguments)
    assert rulings[0].after == rulings[1].before == digest_of({**PAY.arguments, "amount": 2.5})
    assert combine(rulings).rewrite == Rewrite({"amount": 1.25, "to": {"name": "bob"}}, "half will do")


async def test_a_rewrite_that_changes_nothing_is_none() -> None:
    assert await said(lambda subject: Rewrite(subject.arguments)) == Ruling("h", "pre_tool", Continue())


async def test_a_hook_that_changes_what_it_is_shown_or_gave_changes_nothing() -> None:
    given = {"amount": 1}

    def scribble(subject):
        subject.arguments["to"]["name"] = "mallory"
        return Rewrite(given)

    ruling = await said(scribble)
    given["amount"] = 1_000_000
    assert PAY.arguments == {"amount": 5, "to": {"name": "bob"}}
    assert ruling.answer == Rewrite({"amount": 1})

    messages = [UserMessage("hi")]
    asked = ModelAsked(**ABOUT, call="1", model="m", system="s", messages=messages)
    (ruling,) = await known(made(lambda subject: subject.messages.clear(), "pre_model")).ask("pre_model", asked, ["h"])
    assert isinstance(ruling.answer, Deny)
    assert messages == [UserMessage("hi")]


async def test_hooks_are_asked_in_the_order_of_the_definition_until_one_denies() -> None:
    asked = []

    def hooks_of(name, answer):
        def say(subject):
            asked.append(name)
            return answer

        return made(say, name=name)

    hooks = known(*(hooks_of(name, answer) for name, answer in [("c", Ask("?")), ("a", Deny("no")), ("b", Continue())]))
    rulings = await hooks.ask("pre_tool", PAY, ["b", "c", "a", "c"])
    assert asked == ["b", "c", "a"]
    assert combine(rulings).effect == "deny"


async def test_a_name_may_stand_for_functions_at_several_points() -> None:
    guard = [
        made(lambda subject: Deny("no"), "pre_tool", "guard"),
        made(lambda subject: Rewrite("*"), "post_tool", "guard"),
    ]
    hooks = known(*guard)
    assert (await hooks.ask("pre_tool", PAY, ["guard"]))[0].answer == Deny("no")
    paid = ToolAnswered(**ABOUT, call="1.1", tool="pay", arguments={}, output="paid")
    assert (await hooks.ask("post_tool", paid, ["guard"]))[0].answer == Rewrite("*")
    assert await hooks.ask("on_end", Ending(**ABOUT, answer="done"), ["guard"]) == ()
    assert await hooks.ask("pre_tool", PAY, []) == ()


# Whatever goes wrong denies


def raise_error(subject):
    raise ValueError("the password is hunter2")


def leave(subject):
    raise SystemExit(3)


async def cancel(subject):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raise_error, "failed (ValueError)"),
        (leave, "failed (SystemExit)"),
        (cancel, "was cancelled from within"),
        (lambda subject: None, "returned nothing instead of Continue, Deny, Ask or Rewrite"),
        (lambda subject: Rewrite("x"), "rewrote to a value of type str, and at pre_tool it takes a dict"),
    ],
)
async def test_a_hook_that_fails_or_talks_nonsense_denies(function, reason: str) -> None:
    denial = Deny(f"the hook 'h' {reason}, and so denies")
    assert await said(function) == Ruling("h", "pre_tool", denial, is_fault=True)


async def test_those_who_run_the_process_are_told_what_a_hook_raised() -> None:
    told = []
    failing = made(raise_error)
    (ruling,) = await known(failing, fault=lambda hook, error: told.append((hook, str(error)))).ask(
        "pre_tool", PAY, ["h"]
    )
    assert told == [(failing, "the password is hunter2")]
    assert "hunter2" not in str(ruling)


async def test_a_listener_that_fails_itself_opens_nothing() -> None:
    def stumble(hook, error):
        raise LookupError

    (ruling,) = await known(made(raise_error), fault=stumble).ask("pre_tool", PAY, ["h"])
    assert ruling.answer == Deny("the hook 'h' failed (LookupError), and so denies")


async def test_a_hook_that_is_not_known_denies() -> None:
    (ruling,) = await known(made(lambda subject: Continue())).ask("pre_tool", PAY, ["other", "h"])
    assert ruling == Ruling(
        "other",
        "pre_tool",
        Deny("the hook 'other' is not known to this process, and so cannot be asked"),
        is_fault=True,
    )


async def test_a_slow_hook_denies_and_is_stopped() -> None:
    stopped = asyncio.Event()

    async def sleep(subject):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    ruling = await said(sleep, timeout_s=0.001)
    assert ruling.answer == Deny("the hook 'h' has not answered within 0.001 s, and so denies")
    assert ruling.is_fault
    assert stopped.is_set()


async def test_a_slow_plain_function_denies_while_it_is_still_blocked() -> None:
    release = threading.Event()
    ruling = await said(lambda subject: release.wait(60) and Continue(), timeout_s=0.001)
    release.set()
    assert isinstance(ruling.answer, Deny)
    assert ruling.is_fault


async def test_a_hook_that_will_not_stop_is_left_behind_and_its_answer_counts_for_nothing() -> None:
    release = asyncio.Event()
    answered = asyncio.Event()

    async def stubborn(subject):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        answered.set()
        return Continue()

    ruling = await said(stubborn, timeout_s=0.001)
    assert isinstance(ruling.answer, Deny)
    assert not answered.is_set()
    release.set()
    await answered.wait()


async def test_who_cancels_the_question_stops_the_hook() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def wait(subject):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    asking = asyncio.create_task(said(wait))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert stopped.is_set()


async def test_a_reason_without_end_is_cut() -> None:
    ruling = await said(lambda subject: Deny("no" * 10_000))
    assert ruling.answer == Deny(("no" * 10_000)[:2000])


async def test_hooks_are_shown_what_belongs_to_their_point() -> None:
    with pytest.raises(UsageError, match="At on_end hooks are shown Ending, not ToolAsked"):
        await known().ask("on_end", PAY, [])


# Being a hook


def test_a_hook_is_still_the_function_that_it_was() -> None:
    @hook("pre_tool")
    def look(subject):
        """Look at it."""
        return Continue()

    assert look(PAY) == Continue()
    assert (look.name, look.point, look.timeout_s) == ("look", "pre_tool", 5.0)
    assert repr(look) == "<hook look at pre_tool>"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"point": "before_tool"}, "point"),
        ({"point": "pre_tool", "name": "two words"}, "name"),
        ({"point": "pre_tool", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_hook_that_cannot_be_one_is_refused(arguments, path: str) -> None:
    with pytest.raises(DefinitionInvalid) as raised:
        hook(**{"name": "h", **arguments})(lambda subject: Continue())
    assert [where for where, _ in raised.value.problems] == [path]


def test_a_function_that_cannot_be_shown_anything_is_no_hook() -> None:
    deaf: Any = lambda: Continue()  # noqa: E731
    with pytest.raises(DefinitionInvalid, match="must take one argument"):
        hook("pre_tool", name="h")(deaf)


def test_two_hooks_cannot_have_one_name_at_one_point() -> None:
    hooks = known(made(lambda subject: Continue()))
    with pytest.raises(DefinitionInvalid, match="more than one hook at pre_tool"):
        hooks.add(made(lambda subject: Continue()))
    assert hooks.names == ("h",)
