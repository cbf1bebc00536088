"""Questions about calls that were made before, and the memory that answers them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from ostler.domain.constraint.syntax import Asks, Bound, History, Scope, Target
from ostler.domain.constraint.targets import Called, concerns
from ostler.domain.constraint.values import Fault, argument_at

UNITS = 1_000_000_000
"""Arguments are added up in billionths: so many payments of 0.1 are as much as they should be."""
Outcome = Literal["ok", "failed", "unknown"]


class Question(msgspec.Struct, frozen=True):
    """A question of a policy: how many calls of the targets there were in the last `window_us`, or what they sum up to.

    `HAPPENED` and `SUCCEEDED` ask whether there were any; their answer is a count too. `argument` is what a `SUM` adds
    up; `per` says of whose calls; `bound` leaves out those up to a call of its target.
    """

    kind: Asks
    targets: tuple[Target, ...]
    window_us: int
    argument: tuple[str, ...] = ()
    per: Scope = "session"
    bound: Bound | None = None


class RateLimit(msgspec.Struct, frozen=True):
    """A sliding window that a policy keeps: `ceiling` calls of the targets, or of what their `argument` sums up to.

    `question` is the index of its question in `Compiled.history`. What is held against it includes the call itself.
    """

    rule: str
    targets: tuple[Target, ...]
    ceiling: float
    window_us: int
    per: Scope
    question: int
    argument: tuple[str, ...] = ()


def question_of(asked: History) -> Question:
    """A question as it stands in a condition."""
    return Question(asked.asks, asked.targets, asked.within_us, asked.argument, asked.per, asked.bound)


class _Entry(NamedTuple):
    """A call that counts, with the totals up to it. `jump` leads far back, so that a search takes O(log n) steps."""

    at_us: int
    number: int
    calls: int
    total: int
    depth: int
    before: "_Entry | None"
    jump: "_Entry | None"


class _Answer(NamedTuple):
    """What is remembered for one question: the calls that count, and those that bound it."""

    calls: _Entry | None = None
    bounds: _Entry | None = None


class _UnderWay(NamedTuple):
    key: str
    called: Called
    args: Mapping[str, Any]


class Past:
    """The calls of one session, agent, principal or tenant, as far as questions ask about them. Immutable.

    A call under way counts as if it were made now. It counts from the moment of its outcome, unless that is that it
    failed: an outcome that nobody knows may have been a success. Each of `begun`, `ended` and every answer takes
    O(log n), and what is older than the longest window is forgotten.
    """

    __slots__ = ("_answers", "_now_us", "_number", "_under_way", "questions")

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = tuple(questions)
        self._answers = tuple(_Answer() for _ in self.questions)
        self._under_way: tuple[_UnderWay, ...] = ()
        self._number = 0
        self._now_us = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Past) and (
            (self.questions, self._under_way, self._number, self._now_us)
            == (other.questions, other._under_way, other._number, other._now_us)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def remembered(self) -> int:
        """How many calls are kept, over all questions."""
        entries: list[_Entry | None] = [entry for answer in self._answers for entry in (answer.calls, answer.bounds)]
        return len(self._under_way) + sum(entry.depth for entry in entries if entry is not None)

    def begun(self, key: str, called: Called, args: Mapping[str, Any]) -> "Past":
        """A call has begun; `key` tells it from others under way."""
        return self._with(under_way=(*self._under_way, _UnderWay(key, called, args)))

    def ended(self, key: str, at_us: int, outcome: Outcome) -> "Past":
        """The outcome of a call is known. One that never began here changes nothing."""
        call = next((one for one in self._under_way if one.key == key), None)
        if call is None:
            return self
        left = tuple(one for one in self._under_way if one is not call)
        if outcome == "failed":
            return self._with(under_way=left)
        now_us = max(at_us, self._now_us)
        number = self._number + 1
        answers = tuple(
            _remembered(question, answer, call, now_us, number, outcome)
            for question, answer in zip(self.questions, self._answers, strict=True)
        )
        return self._with(under_way=left, answers=answers, number=number, now_us=now_us)

    def answers(self, at_us: int) -> tuple[float, ...]:
        """What is to be answered to every question at a moment, in their order."""
        now_us = max(at_us, self._now_us)
        return tuple(
            self._answer(question, answer, now_us)
            for question, answer in zip(self.questions, self._answers, strict=True)
        )

    def _answer(self, question: Question, answer: _Answer, now_us: int) -> float:
        start_us, after, under_way = now_us - question.window_us, 0, self._under_way
        if question.bound is not None:
            bounding = [n for n, one in enumerate(under_way) if concerns((question.bound.target,), one.called)]
            last = answer.bounds
            if last is not None and last.at_us <= start_us:
                last = None
            if question.bound.kind == "since" and bounding:
                after, under_way = self._number, under_way[bounding[-1] + 1 :]
            elif question.bound.kind == "since":
                after = last.number if last is not None else 0
            elif last is not None:
                after = _first_within(last, start_us).number
            elif bounding:
                after, under_way = self._number, under_way[bounding[0] + 1 :]
            else:
                return 0
        found = _counted(question, answer.calls, start_us, after)
        if question.kind != "SUCCEEDED":
            found += sum(_addend(question, one) for one in under_way)
        return found / UNITS if question.kind == "SUM" else found

    def _with(
        self,
        *,
        under_way: tuple[_UnderWay, ...],
        answers: tuple[_Answer, ...] | None = None,
        number: int | None = None,
        now_us: int | None = None,
    ) -> "Past":
        past = Past.__new__(Past)
        past.questions = self.questions
        past._answers = self._answers if answers is None else answers
        past._under_way = under_way
        past._number = self._number if number is None else number
        past._now_us = self._now_us if now_us is None else now_us
        return past


def _remembered(
    question: Question, answer: _Answer, call: _UnderWay, at_us: int, number: int, outcome: Outcome
) -> _Answer:
    calls, bounds = answer
    if concerns(question.targets, call.called) and (outcome == "ok" or question.kind != "SUCCEEDED"):
        calls = _appended(calls, at_us, number, _addend(question, call), question.window_us)
    if question.bound is not None and concerns((question.bound.target,), call.called):
        bounds = _appended(bounds, at_us, number, 0, question.window_us)
    return _Answer(calls, bounds)


def _addend(question: Question, call: _UnderWay) -> int:
    """What a call adds to an answer: 1, or its argument in `UNITS`. What is negative or no number adds nothing."""
    if not concerns(question.targets, call.called):
        return 0
    if question.kind != "SUM":
        return 1
    try:
        value = argument_at(call.args, question.argument, "")
    except Fault:
        return 0
    if type(value) not in (int, float) or not math.isfinite(value):
        return 0
    units: int = round(value * UNITS)
    return max(units, 0)


def _appended(last: _Entry | None, at_us: int, number: int, addend: int, window_us: int) -> _Entry:
    if last is not None and last.depth % _FORGET_EVERY == 0 and _root(last).at_us <= at_us - window_us:
        last = _without_old(last, at_us - window_us)
    if last is None:
        return _Entry(at_us, number, 1, addend, 1, None, None)
    jump: _Entry | None = last
    if last.jump is not None:
        further = last.jump.jump
        if last.depth - last.jump.depth == last.jump.depth - (further.depth if further is not None else 0):
            jump = further
    return _Entry(at_us, number, last.calls + 1, last.total + addend, last.depth + 1, last, jump)


_FORGET_EVERY = 256
"""So many calls are remembered between two times that old ones are forgotten."""


def _root(entry: _Entry) -> _Entry:
    while (before := entry.jump or entry.before) is not None:
        entry = before
    return entry


def _without_old(last: _Entry, start_us: int) -> _Entry | None:
    """The entries of the window alone, if they are at most half of all."""
    old = _last_up_to(last, start_us, 0)
    if old is None or 2 * (last.depth - old.depth) > last.depth:
        return last
    young: list[_Entry] = []
    entry: _Entry | None = last
    while entry is not None and entry is not old:
        young.append(entry)
        entry = entry.before
    kept: _Entry | None = None
    for entry in reversed(young):
        before = entry.before.total if entry.before is not None else 0
        kept = _linked(kept, entry, entry.total - before)
    return kept


def _linked(last: _Entry | None, entry: _Entry, addend: int) -> _Entry:
    return _appended(last, entry.at_us, entry.number, addend, entry.at_us + 1)


def _last_up_to(entry: _Entry | None, at_us: int, number: int) -> _Entry | None:
    """The last entry that is not after a moment, or not after the call with a number."""
    while entry is not None and entry.at_us > at_us and entry.number > number:
        jump = entry.jump
        is_far = jump is not None and jump.at_us > at_us and jump.number > number
        entry = jump if is_far else entry.before
    return entry


def _first_within(last: _Entry, start_us: int) -> _Entry:
    """The first entry after a moment, of which `last` is one."""
    entry = last
    while entry.before is not None and entry.before.at_us > start_us:
        entry = entry.jump if entry.jump is not None and entry.jump.at_us > start_us else entry.before
    return entry


def _counted(question: Question, calls: _Entry | None, start_us: int, after: int) -> int:
    if calls is None:
        return 0
    old = _last_up_to(calls, start_us, after)
    if question.kind == "SUM":
        return calls.total - (old.total if old is not None else 0)
    return calls.calls - (old.calls if old is not None else 0)
