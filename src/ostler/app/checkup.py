"""What the doctor makes of a store in use: its workers, its queue, what is stuck, and who lags behind."""

from collections.abc import Iterator

from ostler.app.overview import LISTED_MAX, Overview, QueueView, ReaderView, WorkerView
from ostler.domain.scheduling import ATTEMPTS_MAX
from ostler.ports import Finding
from ostler.runtime.journal import QUARANTINED

DUE_MAX_S = 60.0
BEHIND_MAX_S = 60.0
LAG_MAX = 10_000
"""Events that a view may lag behind without slowing lists down."""
AHEAD_MAX_S = 1.0
SHOWN_MAX = 5


def findings(seen: Overview) -> Iterator[Finding]:
    """One finding for each thing, in the order in which they are best mended."""
    yield from _workers(seen)
    yield _queue(seen)
    yield _suspects(seen)
    yield _parked(seen)
    yield _quarantined(seen)
    yield _breakers(seen)
    yield from (_reader(reader) for reader in seen.readers)
    yield _clock(seen)


def _workers(seen: Overview) -> Iterator[Finding]:
    alive = [worker for worker in seen.workers if worker.state == "alive"]
    names = _some([_place(worker) for worker in alive])
    yield Finding("workers alive", "ok", names or "none: `ostler run` and `ostler resume` bring their own")
    if silent := [worker for worker in seen.workers if worker.state == "silent"]:
        held = sum(worker.held for worker in silent)
        yield Finding(
            "workers silent",
            "warn",
            _some([f"{_place(worker)} for {_time(worker.silent_s)}" for worker in silent]),
            "Nothing is lost: a worker on the same host buries them, and any worker goes on with their sessions.",
            f"They have died, been stopped, or cannot reach the store; {held} sessions are still in their hands.",
        )
    if lost := [worker for worker in seen.workers if worker.state == "lost"]:
        yield Finding(
            "workers lost",
            "warn",
            _some([f"{_place(worker)} {_time(worker.silent_s)} ago" for worker in lost]),
            "Look for the reason in the log of the system (memory, power). Their sessions went on from the log.",
            "They ended without a word within the last hour.",
        )


def _queue(seen: Overview) -> Finding:
    alive = any(worker.state == "alive" for worker in seen.workers)
    stuck = [queue for queue in seen.queues if queue.oldest_due_s is not None and queue.oldest_due_s > DUE_MAX_S]
    left = sum(worker.held for worker in seen.workers if worker.state != "alive")
    if stuck and alive:
        return Finding(
            "queue",
            "warn",
            f"due for longer than a minute, and not taken: {_some([_due(queue) for queue in stuck])}",
            "`ostler top` shows what workers hold. Start more, or some that take these agents; raise the limits.",
            "The workers are full, at their limits, or there for other agents; or these are suspects that rest.",
        )
    if (stuck or left) and not alive:
        of = _some([_due(queue) for queue in stuck]) or f"{left} in the hands of silent workers"
        return Finding("queue", "warn", f"nobody runs what is due: {of}", "Start `ostler worker`.", "No worker lives.")
    oldest = f", the longest for {_time(seen.oldest_due_s)}" if seen.oldest_due_s is not None else ""
    return Finding("queue", "ok", f"{seen.due:,} due{oldest}; {seen.held:,} held, {seen.later:,} due later")


def _suspects(seen: Overview) -> Finding:
    if not seen.suspects:
        return Finding("suspects", "ok", "none")
    names = _some([f"{one.session} of {one.agent} ({one.attempts} attempts)" for one in seen.suspects])
    todo = f"`ostler logs {seen.suspects[0].session}` shows what it was doing; look at the memory of the workers."
    why = f"Their workers died or fell silent with them in hand. They are tried one by one, up to {ATTEMPTS_MAX} times."
    return Finding("suspects", "warn", names, todo, why)


def _parked(seen: Overview) -> Finding:
    parked = [one for one in seen.aside if one.status != QUARANTINED]
    if not parked:
        return Finding("parked", "ok", "none")
    names = _some([f"{one.session} of {one.agent}: {one.reason}" for one in parked])
    why = "Ostler has given them up, so that they bring no more workers down. They stay as they are."
    return Finding("parked", "warn", names, f"When the reason is gone: {parked[0].todo}", why)


def _quarantined(seen: Overview) -> Finding:
    damaged = [one for one in seen.aside if one.status == QUARANTINED]
    if not damaged:
        return Finding("quarantined", "ok", "none")
    names = _some([f"{one.session} of {one.agent}" for one in damaged])
    todo = f"`{damaged[0].todo}` shows the damage; restore the store from a backup."
    return Finding("quarantined", "warn", names, todo, "Their logs are damaged or of a newer Ostler; none is run.")


def _breakers(seen: Overview) -> Finding:
    names = _some([f"{one.kind} {one.name} ({one.tenant}, {one.state}, by {one.by})" for one in seen.breakers])
    if seen.breakers_unknown:
        found = seen.breakers_unknown + (f" Open are at least: {names}" if names else "")
        return Finding("breakers", "warn", found, "Check `redis` in [breakers], and that the server runs.")
    if not seen.breakers:
        return Finding("breakers", "ok", "none is open")
    todo = "`ostler breaker list` says why. They close when a call does well again, those opened by hand when reset."
    return Finding("breakers", "warn", names, todo, "These are not called, or by one probe at a time.")


def _reader(reader: ReaderView) -> Finding:
    name = f"{reader.kind} {reader.name}"
    late = "" if reader.behind_s is None else f", the first of them {_time(reader.behind_s)} old"
    found = f"{reader.lag:,} events behind{late}" if reader.lag else "up to date"
    is_late = reader.behind_s is not None and reader.behind_s > BEHIND_MAX_S
    if reader.kind == "view":
        if is_late and reader.lag > LAG_MAX:
            todo = f"ostler views rebuild {reader.name}"
            return Finding(name, "warn", found, todo, "Lists are right all the same, and slower: they read the log.")
        return Finding(name, "ok", found)
    if reader.dead_letters:
        count = f"{reader.dead_letters}{'+' if reader.dead_letters >= LISTED_MAX else ''}"
        todo = f"`ostler relays dead {reader.name}` says why; then ostler relays retry {reader.name}"
        return Finding(name, "warn", f"{found}; {count} events not handed over", todo, "Nobody else gets them.")
    if not reader.begun:
        todo = f"Start it: ostler relay {reader.name}"
        return Finding(name, "warn", "it has never run", todo, "ostler.toml names it, and nothing is handed on.")
    if is_late:
        todo = f"See that `ostler relay {reader.name}` runs, and what it says: its target may not answer."
        return Finding(name, "warn", found, todo, "It stands still, or is too slow; nothing is lost.")
    return Finding(name, "ok", found)


def _clock(seen: Overview) -> Finding:
    if seen.ahead_s <= AHEAD_MAX_S:
        return Finding("log", "ok", f"{seen.events:,} events, none of them in the future")
    return Finding(
        "log",
        "warn",
        f"its last event is {_time(seen.ahead_s)} in the future",
        "Set the clocks of the machines that write to it by NTP.",
        "Leases, timers and ages are wrong until that moment: a clock was set back, or one was ahead.",
    )


def _place(worker: WorkerView) -> str:
    """`wrk_… (pid 12 on host)`."""
    return worker.id if worker.pid is None else f"{worker.id} (pid {worker.pid} on {worker.host})"


def _due(queue: QueueView) -> str:
    return f"{queue.due:,} of {queue.agent} ({queue.tenant}), the longest for {_time(queue.oldest_due_s)}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _some(names: list[str]) -> str:
    """The first few of them, and how many there are beside."""
    rest = len(names) - SHOWN_MAX
    return "; ".join(names[:SHOWN_MAX]) + (f"; and {rest} more" if rest > 0 else "")
