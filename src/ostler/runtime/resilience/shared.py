"""Equal calls are made once: those that come while one is under way get its outcome, and for a while others too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

Made = TypeVar("Made")

KEPT_MAX = 1024
"""So many outcomes are kept at most; the oldest make room."""


class Done(NamedTuple, Generic[Made]):
    """What came of a call, and of which equal call, if not of this one."""

    value: Made
    shared_with: str = ""


class _Kept(NamedTuple, Generic[Made]):
    """An outcome for later calls, when it was made, and for how long whoever made it keeps it."""

    done: Done[Made]
    made_s: float
    keep_s: float


class FailedElsewhere(Exception):
    """The equal call that this one waited for has failed; `error` is how."""

    def __init__(self, error: Exception, shared_with: str) -> None:
        self.error = error
        self.shared_with = shared_with
        super().__init__(str(error))


class Sharing(Generic[Made]):
    """Outcomes by the keys of calls. `may_keep` says which of them do for calls that come later."""

    def __init__(self, may_keep: Callable[[Made], bool]) -> None:
        self._may_keep = may_keep
        self._under_way: dict[str, asyncio.Future[Done[Made]]] = {}
        self._kept: dict[str, _Kept[Made]] = {}

    @property
    def under_way(self) -> int:
        """How many keys have a call under way."""
        return len(self._under_way)

    async def run(self, key: str, name: str, keep_s: float, call: Callable[[], Awaitable[Made]]) -> Done[Made]:
        """What came of this call, or of an equal one, under way or not more than `keep_s` ago. `name` is this call's.

        If the one that others wait for is cancelled, the next of them makes the call. If it fails, they have failed
        with it: raises `FailedElsewhere`. Nothing that has failed is kept.
        """
        while True:
            if (kept := self._kept.get(key)) is not None:
                age_s = asyncio.get_running_loop().time() - kept.made_s
                if age_s < min(kept.keep_s, keep_s):
                    return kept.done
                if age_s >= kept.keep_s:
                    del self._kept[key]
            if (owners := self._under_way.get(key)) is None:
                return Done(await self._own(key, name, keep_s, call))
            await asyncio.wait([owners])
            if owners.cancelled():
                continue
            error = owners.exception()
            if error is None:
                return owners.result()
            assert isinstance(error, FailedElsewhere), "whoever owns a call says so of every failure"
            raise FailedElsewhere(error.error, error.shared_with)

    async def _own(self, key: str, name: str, keep_s: float, call: Callable[[], Awaitable[Made]]) -> Made:
        """Make the call for all who wait."""
        promise: asyncio.Future[Done[Made]] = asyncio.get_running_loop().create_future()
        self._under_way[key] = promise
        try:
            made = await call()
        except Exception as error:
            promise.set_exception(FailedElsewhere(error, name))
            promise.exception()  # nobody may be waiting
            raise
        except BaseException:
            promise.cancel()
            raise
        finally:
            del self._under_way[key]
        done = Done(made, name)
        promise.set_result(done)
        if keep_s > 0 and self._may_keep(made):
            self._keep(key, done, keep_s)
        return made

    def _keep(self, key: str, done: Done[Made], keep_s: float) -> None:
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(done, asyncio.get_running_loop().time(), keep_s)
