"""Asks people's own code what it has to say of a call. A hook that fails, is slow or is not there denies."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, get_args

import msgspec

from ostler.domain.hook import (
    Ask,
    Continue,
    Deny,
    Ending,
    HookAnswer,
    HookPoint,
    ModelAnswered,
    ModelAsked,
    Rewrite,
    Ruling,
    Subject,
    ToolAnswered,
    ToolAsked,
    digest_of,
    problem_with,
    rewritten,
    shown_at,
    value_of,
)
from ostler.kernel.errors import DefinitionInvalid, UsageError

T = TypeVar("T")

HOOK_TIMEOUT_S = 5.0
STOP_GRACE_S = 0.25
"""How long a hook that is told to stop may take before it is left behind."""
REASON_CHARACTERS_MAX = 2000


class Threads(Protocol):
    """Calls a blocking function in a thread, and lets go of it when cancelled."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class Hook:
    """A function that is asked at one point, under a name that agents list."""

    def __init__(self, function: Callable[[Any], Any], name: str, point: HookPoint, timeout_s: float) -> None:
        """Use the decorator `hook`. Raises `DefinitionInvalid`."""
        self.function = function
        self.name = name
        self.point = point
        self.timeout_s = timeout_s
        self.is_async = inspect.iscoroutinefunction(function)
        if problems := _problems(self):
            raise DefinitionInvalid(f"hook {name!r}", problems)

    def __call__(self, subject: Any) -> Any:
        return self.function(subject)

    def __repr__(self) -> str:
        return f"<hook {self.name} at {self.point}>"


def hook(
    point: HookPoint, *, name: str = "", timeout_s: float = HOOK_TIMEOUT_S
) -> Callable[[Callable[[Any], Any]], Hook]:
    """Make a function a hook: it takes what is shown at this point, and returns Continue, Deny, Ask or Rewrite.

    Several functions may share a name at different points; an agent lists the name once. A plain function runs in a
    thread. Whatever goes wrong is a denial: an exception, no answer within `timeout_s`, an answer of another type, also
    None. Raises `DefinitionInvalid`.
    """

    def decorate(function: Callable[[Any], Any]) -> Hook:
        return Hook(function, name or getattr(function, "__name__", ""), point, timeout_s)

    return decorate


class Hooks:
    """The hooks that this process knows.

    `in_thread` runs the plain functions among them. `fault` is told of every hook that failed, with what it raised,
    for those who run the process: neither the model nor the log see the text of an exception.
    """

    def __init__(
        self,
        hooks: Iterable[Hook] = (),
        *,
        in_thread: Threads,
        fault: Callable[[Hook, BaseException], None] = lambda hook, error: None,
    ) -> None:
        """Raises `DefinitionInvalid` if two have the same name at the same point."""
        self._hooks: dict[tuple[str, HookPoint], Hook] = {}
        self._in_thread = in_thread
        self._fault = fault
        self._left_behind: set[asyncio.Task[HookAnswer | str]] = set()
        for one in hooks:
            self.add(one)

    def add(self, hook: Hook) -> None:
        """Know one more; adding it again changes nothing. Raises `DefinitionInvalid` if another has its place."""
        if self._hooks.setdefault((hook.name, hook.point), hook) is not hook:
            raise DefinitionInvalid("hooks", [(hook.name, f"is the name of more than one hook at {hook.point}")])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for name, _ in self._hooks}))

    def are_asked(self, point: HookPoint, names: Sequence[str]) -> bool:
        """Whether any of the hooks of these names has something to say there; one that is not known at all denies."""
        known = self.names
        return any((name, point) in self._hooks or name not in known for name in names)

    async def ask(self, point: HookPoint, subject: Subject, names: Sequence[str]) -> tuple[Ruling, ...]:
        """What the hooks of these names say, one after the other, each shown what those before it have left.

        No more are asked after one has denied. A name that is not known at any point denies; one that is known at other
        points only has nothing to say here. Only what hooks said is returned, so usually nothing but `Continue`s.
        """
        if not isinstance(subject, shown_at(point)):
            raise UsageError(f"At {point} hooks are shown {shown_at(point).__name__}, not {type(subject).__name__}.")
        rulings: list[Ruling] = []
        for name in names:
            found = self._hooks.get((name, point))
            if found is not None:
                ruling = await self._ruling(found, subject)
            elif any(name == known for known, _ in self._hooks):
                continue
            else:
                reason = f"the hook {name!r} is not known to this process, and so cannot be asked"
                ruling = Ruling(name, point, Deny(reason), is_fault=True)
            rulings.append(ruling)
            if isinstance(ruling.answer, Deny):
                break
            if isinstance(ruling.answer, Rewrite):
                subject = rewritten(point, subject, ruling.answer.value)
        return tuple(rulings)

    async def _ruling(self, hook: Hook, subject: Subject) -> Ruling:
        answer = await self._answer(hook, _copied(subject))
        if isinstance(answer, str):
            return Ruling(hook.name, hook.point, Deny(f"the hook {hook.name!r} {answer}"), is_fault=True)
        if not isinstance(answer, Rewrite):
            return Ruling(hook.name, hook.point, answer)
        before, after = digest_of(value_of(hook.point, subject)), digest_of(answer.value)
        if before == after:
            return Ruling(hook.name, hook.point, Continue())
        return Ruling(hook.name, hook.point, answer, before, after)

    async def _answer(self, hook: Hook, subject: Subject) -> HookAnswer | str:
        """What a hook says, or what is wrong with it."""
        asked = asyncio.create_task(self._call(hook, subject), name=f"hook {hook.name}")
        try:
            await asyncio.wait({asked}, timeout=hook.timeout_s)
            if not asked.done():
                return f"has not answered within {hook.timeout_s:g} s, and so denies"
        finally:
            await self._stop(asked)
        if asked.cancelled():
            return "was cancelled from within, and so denies"
        if (error := asked.exception()) is not None:  # of `fault`, or of what is shown to the hook
            return f"failed ({type(error).__name__}), and so denies"
        return asked.result()

    async def _call(self, hook: Hook, subject: Subject) -> HookAnswer | str:
        try:
            if hook.is_async:
                answer = await hook.function(subject)
            else:
                answer = await self._in_thread(lambda: hook.function(subject))
                if inspect.isawaitable(answer):  # of an object that is called like a coroutine function
                    answer = await answer
            problem = problem_with(hook.point, answer)
        except (Exception, SystemExit) as error:
            self._fault(hook, error)
            return f"failed ({type(error).__name__}), and so denies"
        return f"{problem}, and so denies" if problem else _own(answer)

    async def _stop(self, asked: "asyncio.Task[HookAnswer | str]") -> None:
        """Let a hook end; one that will not is left behind, and nobody waits for what it says."""
        if asked.done():
            return
        asked.cancel()
        self._left_behind.add(asked)
        asked.add_done_callback(self._forget)
        await asyncio.wait({asked}, timeout=STOP_GRACE_S)

    def _forget(self, asked: "asyncio.Task[HookAnswer | str]") -> None:
        self._left_behind.discard(asked)
        if not asked.cancelled():
            asked.exception()


def _copied(subject: Subject) -> Subject:
    """The subject with arguments of its own: what a hook does to what it is shown changes nothing."""
    match subject:
        case ToolAsked() | ToolAnswered():
            return msgspec.structs.replace(subject, arguments=_plain(subject.arguments))
        case ModelAsked():
            return msgspec.structs.replace(subject, messages=tuple(subject.messages))
        case ModelAnswered() | Ending():
            return subject


def _own(answer: HookAnswer) -> HookAnswer:
    """The answer with a value that the hook cannot reach any more, and a reason that fits into an event."""
    match answer:
        case Continue():
            return answer
        case Deny(reason):
            return Deny(reason[:REASON_CHARACTERS_MAX])
        case Ask(reason):
            return Ask(reason[:REASON_CHARACTERS_MAX])
        case Rewrite(value, reason):
            return Rewrite(_plain(value), reason[:REASON_CHARACTERS_MAX])


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _problems(hook: Hook) -> list[tuple[str, str]]:
    problems = []
    points = get_args(HookPoint)
    if not hook.name.isidentifier() and not hook.name.replace("-", "_").replace(".", "_").isidentifier():
        problems.append(("name", "must be letters, digits, '_', '.' or '-', and not begin with a digit"))
    if hook.point not in points:
        problems.append(("point", f"{hook.point!r} is none of {', '.join(points)}"))
    if not hook.timeout_s > 0:
        problems.append(("timeout_s", "must be greater than 0"))
    try:
        inspect.signature(hook.function).bind(None)
    except (TypeError, ValueError):
        problems.append(("function", "must take one argument: what it is shown"))
    return problems
