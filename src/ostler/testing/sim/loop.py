"""An event loop in which time is a number and order a seed: no threads, no sockets, and nobody really waits.

The code that runs on it belongs to processes. Each takes its own callbacks in the order that asyncio promises, and the
seed chooses which process has the next turn. A process can be frozen (its turns wait) and killed (they never come).
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURN_S = 0.000_02
"""How much virtual time one callback takes, so that whoever spins moves the clock as well."""
TURNS_MAX = 40_000
"""More turns than any run needs: somebody runs in circles."""
_UNWINDING_MAX = 50


class Killed(BaseException):
    """The process is gone; not an Exception, so that nobody can catch it and go on."""


class Stuck(Exception):
    """The simulation cannot go on: nobody has anything left to do, or somebody runs in circles."""


class Process:
    """What would be an operating system process: code that is frozen and dies together, with a memory of its own."""

    __slots__ = ("context", "gone", "is_alive", "is_frozen", "is_mortal", "name", "tasks", "turns")

    def __init__(self, name: str, *, is_mortal: bool = False) -> None:
        """A mortal one may crash at any of its outside calls."""
        self.name = name
        self.is_mortal = is_mortal
        self.is_alive = True
        self.is_frozen = False
        self.turns: deque[_Turn] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.gone = asyncio.Event()
        self.context = copy_context()
        self.context.run(_HERE.set, self)

    def __repr__(self) -> str:
        return f"<process {self.name}>"


_HERE: ContextVar[Process] = ContextVar("process")


def here() -> Process:
    """The process whose code is running."""
    return _HERE.get()


async def pass_time(seconds: float) -> None:
    """Let so much virtual time go by, which takes no time."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop), "time that has to be waited for cannot be passed"
    await asyncio.sleep(seconds)


class _Turn(asyncio.TimerHandle):
    """A callback that waits for its turn."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs processes under a seed. `complaints` are errors that nobody dealt with, and would only have been logged."""

    def __init__(self, chance: random.Random, *, stickiness: float = 0.0) -> None:
        """`stickiness` in [0, 1) is how often the process that had the last turn gets the next as well."""
        super().__init__()
        self.turns = 0
        self.complaints: list[str] = []
        self._chance = chance.random
        self._stickiness = stickiness
        self._now = 0.0
        self._waiting: list[Process] = []
        self._alarms: list[tuple[float, int, Process, _Turn]] = []
        self._dying: list[Process] = []
        self._last: Process | None = None
        self._count = 0

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        turn = _Turn(self._now, callback, args, self, context)
        self._line_up(context[_HERE], turn)
        return turn

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context = copy_context()
        turn = _Turn(when, callback, args, self, context)
        process = context[_HERE]
        if process.is_alive:
            self._count += 1
            heapq.heappush(self._alarms, (when, self._count, process, turn))
        return turn

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by asyncio. A cancelled turn is passed over when it comes."""

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        process = _HERE.get()
        if not process.is_alive:  # on its way out: nothing begins any more
            coro.close()
            return task
        if len(process.tasks) >= 64 and len(process.tasks) % 64 == 0:
            process.tasks = [one for one in process.tasks if not one.done() or _died_of(one) is not None]
        process.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = context["message"]
        if isinstance(error, Killed) or "is pending" in message or "never retrieved" in message:
            return  # it comes of a process that is gone, whenever garbage is collected
        self.complaints.append(f"{message}: {error!r}")

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `work` as a task of `process`."""
        if not process.is_alive:
            work.close()
            raise Killed(process.name)
        return process.context.copy().run(self.create_task, work)

    def run(self, process: Process, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` in `process`, and everything that it spawns, until it returns. Raises `Stuck`."""
        with self._running():
            task = self.spawn(process, main)
            self.turns = 0
            while not task.done():
                self._take_turn()
            return task.result()

    def end(self, processes: Iterable[Process]) -> None:
        """Kill these processes while nothing runs."""
        with self._running():
            for process in processes:
                self.kill(process)
            self._clear_away()

    @contextmanager
    def _running(self) -> Iterator[None]:
        # asyncio gives this function to those who implement loops, under this name.
        asyncio.events._set_running_loop(self)
        try:
            yield
        finally:
            asyncio.events._set_running_loop(None)

    def freeze(self, process: Process) -> None:
        """Let it have no turns, while time goes on for everybody else."""
        if not process.is_frozen and process in self._waiting:
            self._waiting.remove(process)
        process.is_frozen = True

    def thaw(self, process: Process) -> None:
        if process.is_frozen and process.turns and process.is_alive:
            self._waiting.append(process)
        process.is_frozen = False

    def kill(self, process: Process) -> None:
        """It is dead when this returns, and cleared away after the turn that runs now, which may be its own."""
        if not process.is_alive:
            return
        process.is_alive = False
        if process in self._waiting:
            self._waiting.remove(process)
        process.turns.clear()
        process.gone.set()
        self._dying.append(process)

    def died(self, process: Process) -> list[str]:
        """Tasks of this process that an error has ended."""
        found = [(task.get_name(), _died_of(task)) for task in process.tasks if task.done()]
        return [f"{name}: {error!r}" for name, error in found if error is not None]

    def _clear_away(self) -> None:
        """Unwind what is left of those that were killed."""
        while self._dying:
            process = self._dying.pop()
            for task in process.tasks:
                if not task.done():
                    process.context.copy().run(_unwind, task)
            process.tasks.clear()

    def _line_up(self, process: Process, turn: _Turn) -> None:
        if not process.is_alive:
            return
        if not process.turns and not process.is_frozen:
            self._waiting.append(process)
        process.turns.append(turn)

    def _take_turn(self) -> None:
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise Stuck(f"more than {TURNS_MAX} turns")
        self._now += TURN_S
        alarms, waiting = self._alarms, self._waiting
        if not waiting:
            if not alarms:
                raise Stuck("nobody has anything to do, or to wait for")
            self._now = max(self._now, alarms[0][0])
        while alarms and alarms[0][0] <= self._now:
            _, _, process, turn = heapq.heappop(alarms)
            if not turn.cancelled():
                self._line_up(process, turn)
        if not waiting:
            return
        process = self._choose(waiting)
        turn = process.turns.popleft()
        if not process.turns:
            waiting.remove(process)
        if not turn.cancelled():
            turn._run()
        if self._dying:
            self._clear_away()

    def _choose(self, waiting: list[Process]) -> Process:
        if len(waiting) == 1:
            return waiting[0]
        if self._last in waiting and self._chance() < self._stickiness:
            assert self._last is not None
            return self._last
        self._last = waiting[int(self._chance() * len(waiting))]
        return self._last


def _died_of(task: asyncio.Task[Any]) -> BaseException | None:
    if task.cancelled():
        return None
    error = task.exception()
    return None if isinstance(error, Killed) else error


def _unwind(task: asyncio.Task[Any]) -> None:
    """End a coroutine of a dead process. Whatever it still does on its way out reaches nobody: its ports are dead."""
    work = task.get_coro()
    assert work is not None
    for _ in range(_UNWINDING_MAX):
        try:
            work.throw(Killed())
        except BaseException:
            return
    raise Stuck(f"{task.get_name()} does not die")
