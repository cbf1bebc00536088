"""Named stages around a call, each with its own policy for errors, and what each of them costs."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

Step = Callable[[Given], Awaitable[Made]]
"""What is behind a stage: it makes something of what it is given."""

Run = Callable[[Given, Step[Given, Made]], Awaitable[Made]]
"""What a stage does with what it is given, and with what is behind it."""


class Origin(NamedTuple):
    """The stage that an error comes from, and what that stage had been given."""

    stage: str
    given: Any


def origin_of(error: BaseException) -> Origin | None:
    """Where an error that a pipeline raised comes from."""
    return getattr(error, "__origin__", None)


class Timing(NamedTuple):
    """What a stage was there for so far. `own_us` is without what is behind it; `failures` began in it."""

    stage: str
    calls: int
    failures: int
    total_us: float
    own_us: float


class Stage(Generic[Given, Made]):
    """Does something before and after the next step, or in its place.

    `on_error` says what follows from a failure of the stage: `stop`, it is raised; `skip`, it goes on as if the stage
    were not there, with the input that the stage was given; or a function that makes something else in its place. What
    fails behind a stage is raised through `skip`, and replaced by a function.
    """

    def __init__(
        self,
        name: str,
        run: Run[Given, Made],
        *,
        on_error: Literal["stop", "skip"] | Callable[[Given, Exception], Made] = "stop",
    ) -> None:
        self.name = name
        self.run = run
        self.on_error = on_error


class Pipeline(Generic[Given, Made]):
    """Stages from the outermost to the innermost, around `last`, which is called `call` where stages are named."""

    def __init__(self, stages: Sequence[Stage[Given, Made]], last: Step[Given, Made]) -> None:
        self._counts = [_Count(stage.name) for stage in stages] + [_Count("call")]
        names = [count.stage for count in self._counts]
        if len(set(names)) < len(names):
            raise ValueError(f"stages are told apart by their names: {', '.join(names)}")
        step = _counting(self._counts[-1], lambda given, _: last(given), last)
        for stage, count in reversed(list(zip(stages, self._counts, strict=False))):
            step = _counting(count, _run_of(stage), step)
        self.run = step
        """Runs it. An error that comes out says by `origin_of` where it comes from, and what was given there."""

    def timings(self) -> list[Timing]:
        """What each stage cost so far, from the outermost to the innermost."""
        inner = [*(count.ns for count in self._counts[1:]), 0]
        return [
            Timing(count.stage, count.calls, count.failures, count.ns / 1e3, (count.ns - behind) / 1e3)
            for count, behind in zip(self._counts, inner, strict=True)
        ]


class _Count:
    __slots__ = ("calls", "failures", "ns", "stage")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.calls = self.failures = self.ns = 0


def _counting(
    count: _Count, run: Run[Given, Made], inner: Step[Given, Made], tick: Callable[[], int] = time.perf_counter_ns
) -> Step[Given, Made]:
    """A stage before what is behind it, as one step that is counted and timed. Being cancelled is no failure."""

    async def counted(given: Given) -> Made:
        began = tick()
        count.calls += 1
        try:
            return await run(given, inner)
        except Exception as error:
            if not hasattr(error, "__origin__"):
                count.failures += 1
                object.__setattr__(error, "__origin__", Origin(count.stage, given))  # of frozen ones, too
            raise
        finally:
            count.ns += tick() - began

    return counted


def _run_of(stage: Stage[Given, Made]) -> Run[Given, Made]:
    """What a stage does, with what its policy makes of errors."""
    run, on_error = stage.run, stage.on_error
    if on_error == "stop":
        return run

    async def skipping(given: Given, inner: Step[Given, Made]) -> Made:
        behind = _Behind(inner)
        try:
            return await run(given, behind)
        except Exception:
            if behind.error is not None:
                raise
            return behind.made[0] if behind.made else await inner(given)

    async def replacing(given: Given, inner: Step[Given, Made]) -> Made:
        try:
            return await run(given, inner)
        except Exception as error:
            assert callable(on_error), "a policy is a word or a function"
            return on_error(given, error)

    return replacing if callable(on_error) else skipping


class _Behind(Generic[Given, Made]):
    """What is behind a stage, and what came of it."""

    def __init__(self, inner: Step[Given, Made]) -> None:
        self._inner = inner
        self.made: list[Made] = []
        self.error: Exception | None = None

    async def __call__(self, given: Given) -> Made:
        try:
            self.made = [await self._inner(given)]
        except Exception as error:
            self.error = error
            raise
        return self.made[0]
