"""What the demonstration showed, read from the log and set against what was seen from outside."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.app.verify import Verified
from ostler.domain.session.events import ApprovalGranted, CallRetried, ModelCompleted, ToolCompleted, ToolRequested
from ostler.domain.session.fork import Fact
from ostler.views.calls import CallView, calls
from ostler.views.sessions import SessionView


class Score(msgspec.Struct, frozen=True):
    """What a run of the tests says of them."""

    total: int
    failed: int

    @property
    def passed(self) -> bool:
        return self.total > 0 and self.failed == 0

    def __str__(self) -> str:
        return f"all {self.total} pass" if self.passed else f"{self.failed} of {self.total} fail"


class Refusal(msgspec.Struct, frozen=True):
    """A call that the gate refused: nothing was performed."""

    call: str
    what: str
    rule: str
    reason: str


class Killed(msgspec.Struct, frozen=True):
    """The worker that was killed, the call that was under way, and how many `processes` died with it.

    `runs` is how many runs of the tests had begun by then, by their own count.
    """

    pid: int
    call: str
    what: str
    runs: int
    processes: int


class Recovered(msgspec.Struct, frozen=True):
    """What became of the interrupted call: `outcome` as it is in the log, and the new call that the agent chose."""

    pid: int
    found_lost: Sequence[str]
    outcome: str
    reason: str
    again: str


class Approved(msgspec.Struct, frozen=True):
    """A call that waited for a decision. `commits_before` and `commits_after` are what git says."""

    call: str
    what: str
    rule: str
    by: str
    reason: str
    commits_before: int
    commits_after: int


class Count(msgspec.Struct, frozen=True):
    """The proof that nothing was performed twice.

    In the log every one of the `calls` has one intent and one outcome, but for those in `twice`. From outside the tests
    have counted `runs_seen` of themselves and git `commits_seen`, where the log has `runs_logged` and `commits_logged`.
    """

    calls: int
    twice: list[str]
    runs_logged: int
    runs_seen: int
    commits_logged: int
    commits_seen: int

    @property
    def is_once_each(self) -> bool:
        is_seen = self.runs_logged == self.runs_seen and self.commits_logged == self.commits_seen
        return self.calls > 0 and not self.twice and is_seen


class Offline(msgspec.Struct, frozen=True):
    """A replay without the world, beside the state that the store gives: both as SHA-256 of canonical JSON."""

    decisions: int
    events: int
    digest: str
    digest_in_store: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demonstration showed. `promises` says of each whether it was kept."""

    session: SessionView
    promises: dict[str, bool]
    outcomes: dict[str, int]
    tests_before: Score | None
    tests_after: Score | None
    diff: str
    refusals: list[Refusal]
    killed: Killed
    recovered: Recovered
    approved: Approved
    count: Count
    replay: Offline
    logs: list[Verified]
    took_s: float
    folder: str
    store: str
    workspace: str

    @property
    def is_kept(self) -> bool:
        return all(self.promises.values())


class Seen(msgspec.Struct, frozen=True):
    """What the one who gave the demonstration has seen."""

    killed: Killed
    successor_pid: int
    found_lost: Sequence[str]
    commits_before: int
    commits_after: int
    runs: int
    replay: Offline
    logs: list[Verified]


def promises(
    view: SessionView,
    *,
    tests: tuple[Score | None, Score | None],
    refusals: Sequence[Refusal],
    recovered: Recovered,
    approved: Approved,
    count: Count,
    replay: Offline,
    logs: Sequence[Verified],
) -> dict[str, bool]:
    """What was promised, and whether it was kept."""
    before, after = tests
    return {
        "repaired": view.status == "completed"
        and before is not None
        and not before.passed
        and after is not None
        and after.passed,
        "refused": len(refusals) == 3 and all(one.rule for one in refusals),
        "recovered": recovered.outcome == "unknown" and bool(recovered.found_lost),
        "once": count.is_once_each,
        "approved": (approved.commits_before, approved.commits_after) == (1, 2),
        "replayed": replay.digest == replay.digest_in_store,
        "verified": bool(logs) and all(log.is_whole for log in logs),
    }


def what(tool: str, arguments: dict[str, Any]) -> str:
    """A call of the agent's tools in a few words: a command line, or a tool and where it works."""
    if "argv" in arguments:
        return shlex.join(word.partition("\n")[0] for word in arguments["argv"])
    return f"{tool} {arguments.get('pattern', arguments.get('path', ''))}".strip()


def is_test_run(arguments: dict[str, Any]) -> bool:
    """Whether a call runs the tests."""
    return "unittest" in arguments.get("argv", ())


def read_tests(output: str) -> Score | None:
    """What the standard library's test runner says at its end; None if it says nothing of the kind."""
    ran = re.search(r"^Ran (\d+) tests? in", output, re.MULTILINE)
    if ran is None:
        return None
    failed = re.findall(r"(?:failures|errors)=(\d+)", output[ran.end() :])
    return Score(int(ran[1]), sum(map(int, failed)))


def ran(output: str) -> tuple[int, str]:
    """The exit code and the output of a program, of the outcome of its call."""
    answer = msgspec.json.decode(output)
    return answer["exit"], answer["output"]


def diff_in(facts: Sequence[Fact]) -> str:
    """What `git diff` said when the agent asked for it last."""
    asked = {event.call for _, event in facts if isinstance(event, ToolRequested) and _is_git(event.arguments, "diff")}
    said = [event.output for _, event in facts if isinstance(event, ToolCompleted) and event.ok and event.call in asked]
    return ran(said[-1])[1] if said else ""


def report(view: SessionView, facts: Sequence[Fact], seen: Seen, *, took_s: float, folder: str, store: str) -> Report:
    """Put everything together."""
    found = calls(facts)
    runs = [call for call in found if call.arguments and is_test_run(call.arguments)]
    results = [read_tests(ran(call.outcome)[1]) for call in runs if call.stage == "done"]
    parts: dict[str, Any] = {
        "refusals": [_refusal(call) for call in found if call.stage == "refused"],
        "recovered": _recovered(runs, seen),
        "approved": _approved(found, facts, seen),
        "count": _count(facts, found, runs, seen),
        "replay": seen.replay,
        "logs": seen.logs,
    }
    before, after = results[0] if results else None, results[-1] if results else None
    return Report(
        session=view,
        promises=promises(view, tests=(before, after), **parts),
        outcomes=dict(Counter(call.kind if call.kind == "unknown" else call.stage for call in found if call.tool)),
        tests_before=before,
        tests_after=after,
        diff=diff_in(facts),
        killed=seen.killed,
        took_s=round(took_s, 2),
        folder=folder,
        store=store,
        workspace=view.workspace or "",
        **parts,
    )


def _refusal(call: CallView) -> Refusal:
    return Refusal(call.call, what(call.tool, msgspec.json.decode(call.asked)), call.rule, call.reason)


def _recovered(runs: Sequence[CallView], seen: Seen) -> Recovered:
    names = [call.call for call in runs]
    place = names.index(seen.killed.call)
    lost, following = runs[place], names[place + 1 :]
    return Recovered(seen.successor_pid, seen.found_lost, lost.kind, lost.outcome, following[0] if following else "")


def _approved(found: Sequence[CallView], facts: Sequence[Fact], seen: Seen) -> Approved:
    (granted,) = (event for _, event in facts if isinstance(event, ApprovalGranted))
    (call,) = (call for call in found if call.call == granted.call)
    return Approved(
        call=call.call,
        what=what(call.tool, call.arguments or {}),
        rule=call.rule,
        by=granted.by,
        reason=granted.reason,
        commits_before=seen.commits_before,
        commits_after=seen.commits_after,
    )


def _count(facts: Sequence[Fact], found: Sequence[CallView], runs: Sequence[CallView], seen: Seen) -> Count:
    intents = Counter(event.call for _, event in facts if isinstance(event, ToolRequested))
    outcomes = Counter(event.call for _, event in facts if isinstance(event, ToolCompleted))
    replies = Counter(event.call for _, event in facts if isinstance(event, ModelCompleted))
    again = {event.call for _, event in facts if isinstance(event, CallRetried)}
    many = {call for counter in (intents, outcomes, replies) for call, times in counter.items() if times > 1}
    unmatched = set(intents) ^ set(outcomes)
    commits = [call for call in found if call.stage == "done" and _is_git(call.arguments or {}, "commit")]
    return Count(
        calls=len(intents),
        twice=sorted(many | unmatched | again),
        runs_logged=len(runs),
        runs_seen=seen.runs,
        commits_logged=len(commits),
        commits_seen=seen.commits_after - 1,
    )


def _is_git(arguments: dict[str, Any], verb: str) -> bool:
    return list(arguments.get("argv", ())[:2]) == ["git", verb]
