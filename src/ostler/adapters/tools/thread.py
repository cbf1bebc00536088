"""A thread of its own for one blocking function, which can be abandoned and, mostly, stopped."""

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

GRACE_S = 0.25
"""How long a cancelled function may take to notice before its thread is left to itself."""


class Stopped(BaseException):
    """Raised inside a function whose call was cancelled; no `except Exception` holds it up."""


async def in_thread(function: Callable[[], T]) -> T:
    """Call `function` in a daemon thread, with the caller's context variables, and return what it returns.

    A thread of its own, because a hung function must neither use up a pool nor keep the interpreter from exiting.
    Cancelling raises `Stopped` in the function at its next Python instruction and waits a moment for it to end. A
    thread that is blocked inside C code cannot be stopped: what may block for long belongs in a process.
    """
    work = _Work(function)
    try:
        return await asyncio.shield(work.result)
    except asyncio.CancelledError:
        work.stop()
        try:
            await asyncio.wait([work.result], timeout=GRACE_S)
        finally:
            work.abandon()
        raise


class _Work(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self._loop.create_future()
        self._context = contextvars.copy_context()
        self._function = function
        self._lock = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="ostler-tool", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            ident = self._thread.ident
            if not self._is_over and ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Stopped))

    def abandon(self) -> None:
        """Nobody waits for the result any more, whatever it will be."""
        if not self.result.cancel() and not self.result.cancelled():
            self.result.exception()

    def _run(self) -> None:
        try:
            self._report(*self._call())
        except Stopped:  # it may arrive anywhere, even on the way out
            self._report(None, asyncio.CancelledError())

    def _call(self) -> tuple[T | None, BaseException | None]:
        try:
            return self._context.run(self._function), None
        except Stopped:
            return None, asyncio.CancelledError()
        except StopIteration as error:  # which no future can hold
            return None, RuntimeError(f"StopIteration: {error}")
        except BaseException as error:
            return None, error

    def _report(self, value: T | None, error: BaseException | None) -> None:
        with self._lock:  # from here on the thread's ident may be anybody's: never stop it
            self._is_over = True
        try:
            self._loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:  # the loop has closed: nobody is waiting
            return

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        if self.result.done():
            return
        if error is None:
            self.result.set_result(value)  # type: ignore[arg-type]  # None only if T is
        elif isinstance(error, asyncio.CancelledError):
            self.result.cancel()
        else:
            self.result.set_exception(error)
