"""Stages around a call: their order, their policies for errors, and what is known of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ostler.runtime.resilience.pipeline import Pipeline, Stage, Step, origin_of


def noting(name: str, seen: list[str], **policy: Any) -> Stage[str, str]:
    async def run(given: str, inner: Step[str, str]) -> str:
        seen.append(f"{name} {given}")
        made = await inner(f"{given}+{name}")
        seen.append(f"{name} made {made}")
        return made

    return Stage(name, run, **policy)


def failing(name: str, *, after: bool = False, **policy: Any) -> Stage[str, str]:
    async def run(given: str, inner: Step[str, str]) -> str:
        if after:
            await inner(given)
        raise ValueError(name)

    return Stage(name, run, **policy)


async def upper(given: str) -> str:
    return given.upper()


async def broken(given: str) -> str:
    raise KeyError(given)


async def test_stages_are_passed_inwards_in_their_order_and_outwards_in_the_other() -> None:
    seen: list[str] = []
    assert await Pipeline([noting("a", seen), noting("b", seen)], upper).run("x") == "X+A+B"
    assert seen == ["a x", "b x+a", "b made X+A+B", "a made X+A+B"]


async def test_a_failing_stage_stops_what_is_behind_it_and_the_error_says_where_and_of_what() -> None:
    seen: list[str] = []
    pipeline = Pipeline([noting("a", seen), failing("b"), noting("c", seen)], upper)
    with pytest.raises(ValueError, match="b") as raised:
        await pipeline.run("x")
    assert origin_of(raised.value) == ("b", "x+a")
    assert seen == ["a x"]
    assert [(one.stage, one.calls, one.failures) for one in pipeline.timings()] == [
        ("a", 1, 0),
        ("b", 1, 1),
        ("c", 0, 0),
        ("call", 0, 0),
    ]


async def test_an_error_that_cannot_be_changed_is_raised_as_it_is() -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        why: str

    async def fail(given: str) -> str:
        raise Frozen(given)

    with pytest.raises(Frozen) as raised:
        await Pipeline([], fail).run("x")
    assert (raised.value.why, origin_of(raised.value)) == ("x", ("call", "x"))


@pytest.mark.parametrize("after", [False, True])
async def test_a_stage_that_is_skipped_when_it_fails_loses_nothing_and_calls_nothing_twice(after: bool) -> None:
    calls: list[str] = []

    async def call(given: str) -> str:
        calls.append(given)
        return given.upper()

    assert await Pipeline([failing("a", after=after, on_error="skip")], call).run("x") == "X"
    assert calls == ["x"]


async def test_what_fails_behind_a_stage_that_is_skipped_still_fails() -> None:
    seen: list[str] = []
    with pytest.raises(KeyError) as raised:
        await Pipeline([noting("a", seen, on_error="skip")], broken).run("x")
    assert origin_of(raised.value) == ("call", "x+a")


@pytest.mark.parametrize(
    ("stage", "call"), [(failing, upper), (lambda name, **policy: noting(name, [], **policy), broken)]
)
async def test_something_else_may_take_the_place_of_a_failure(stage: Callable[..., Stage[str, str]], call: Any) -> None:
    replaced = stage("a", on_error=lambda given, error: f"{given} {type(error).__name__}")
    assert (await Pipeline([replaced], call).run("x")).split() in (["x", "ValueError"], ["x", "KeyError"])


async def test_time_is_counted_where_it_is_spent() -> None:
    async def burn(given: str) -> str:
        return str(sum(range(200_000)))

    pipeline = Pipeline([noting("a", [])], burn)
    for _ in range(3):
        await pipeline.run("x")
    outer, inner = pipeline.timings()
    assert (outer.calls, inner.calls) == (3, 3)
    assert outer.total_us >= inner.total_us > outer.own_us


def test_stages_are_told_apart_by_their_names() -> None:
    with pytest.raises(ValueError, match="told apart"):
        Pipeline([failing("a"), failing("a")], upper)
