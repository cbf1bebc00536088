"""Tries changes: makes them, runs the tests, keeps what helps and puts back what does not."""

import ast
from collections.abc import Iterable, Sequence

import msgspec

from ostler.adapters.providers.repair import workshop
from ostler.adapters.providers.repair.mutations import Mutation, mutations
from ostler.adapters.providers.repair.reports import Report, read_report
from ostler.adapters.providers.repair.script import Seen, Steps, Stuck, Turn
from ostler.adapters.providers.repair.source import Source
from ostler.adapters.providers.repair.survey import surely_ran, whole_text
from ostler.adapters.providers.repair.suspects import Index, rank

CANDIDATES_MAX = 25
PATIENCE = 6
"""How many more are tried after one that helped, before it is kept."""


class _Change(msgspec.Struct, frozen=True):
    """Replaces the one place in a file where `old` stands."""

    path: str
    old: str
    new: str

    def undone(self) -> "_Change":
        return _Change(self.path, self.new, self.old)


class Trial:
    """The search for a change that makes the tests pass, and the state in which it left the files."""

    def __init__(self, command: Sequence[str], sources: dict[str, Source], *, timeout_s: int) -> None:
        self._test = workshop.run(*command, timeout_s=timeout_s)
        self.kept: list[Mutation] = []
        self.tried: list[Mutation] = []
        self._sources = dict(sources)
        self._texts = {path: [source.text] for path, source in sources.items()}  # every text so far, the newest last
        self._made: list[_Change] = []
        self._useless: _Change | None = None
        self._helped: set[tuple[str, str, str]] = set()

    def search(self, first: Report) -> Steps[Report]:
        """Try changes, likeliest first, until the tests pass or the bound is reached; the best report so far."""
        best = first
        while True:
            improved = yield from self._improve(best)
            if improved is None or improved.passed:
                return improved or best
            best = improved

    def put_back(self) -> Steps[None]:
        """Leave every file as it was found."""
        changed = [path for path, texts in self._texts.items() if texts[-1] != texts[0]]
        if not changed:
            return
        asks = []
        for path in changed:
            made = [change for change in self._made if change.path == path]
            undo = made[0].undone() if len(made) == 1 else None
            whole = workshop.write(path, self._texts[path][0])
            asks.append(workshop.edit(path, undo.old, undo.new) if undo else whole)
        self._made, self._useless = [], None
        for path in changed:
            self._texts[path].append(self._texts[path][0])
        seen = yield Turn("I put everything back as I found it.", tuple(asks))
        yield from self._settle(changed, seen)

    def _improve(self, best: Report) -> Steps[Report | None]:
        """The report of the candidate that helps most, which is kept; None if none helps, or the bound is reached.

        One after which all tests pass ends the search at once. One that only helps is not kept before others were
        tried, above all on the same line: it may be the wrong change, which happens to please a test.
        """
        queue = self._candidates(best)
        helpful: tuple[Report, Mutation] | None = None
        until = CANDIDATES_MAX
        while queue and len(self.tried) < until:
            mutation = queue.pop(0)
            if not self._is_python(mutation):
                continue
            text = f"Try {len(self.tried) + 1}: I change {mutation.title} and run the tests."
            report = yield from self._try(mutation, text)
            if report is None or not report.improves_on(best):
                continue
            if report.passed:
                self._keep(mutation)
                return report
            self._helped.add(_place(mutation))
            queue = _first(queue, [each for each in queue if _line(each) == _line(mutation)])
            if helpful is None or report.failed < helpful[0].failed:
                helpful = report, mutation
                until = min(until, len(self.tried) + PATIENCE)
        if helpful is None or len(self.tried) >= CANDIDATES_MAX:
            return None
        report, mutation = helpful
        if self._useless != _change(mutation):
            text = f"What helped most was {mutation.title}: I make that change again and go on from there."
            report = yield from self._try(mutation, text)
        self._keep(mutation)
        return report

    def _keep(self, mutation: Mutation) -> None:
        self.kept.append(mutation)
        self._sources[mutation.path] = Source(mutation.path, self._texts[mutation.path][-1])
        self._useless = None

    def _try(self, mutation: Mutation, text: str) -> Steps[Report | None]:
        """The report with this change; None if the tests did not finish."""
        change = _change(mutation)
        changes = [change]
        if self._useless is not None:
            text = f"That did not do it, so I put it back. {text}"
            changes.insert(0, self._useless.undone())
        self.tried.append(mutation)
        self._useless = change
        asks = tuple(workshop.edit(each.path, each.old, each.new) for each in changes)
        for each in changes:
            self._expect(each)
        *edited, tested = yield Turn(text, (*asks, self._test))
        if (yield from self._settle({each.path for each in changes}, edited)):
            (tested,) = yield Turn("Now I run the tests.", (self._test,))
        tested = yield from surely_ran(tested, self._test)
        outcome = workshop.ran(tested)
        if outcome is None and tested.kind == "blocked":
            raise Stuck(f"I may not run the tests any more: {tested.error}.")
        if outcome is None and tested.kind == "permanent":
            raise Stuck(f"I cannot run the tests any more: {tested.error}")
        return None if outcome is None else read_report(outcome)

    def _expect(self, change: _Change) -> None:
        """Note what the file will be."""
        text = self._texts[change.path][-1]
        assert text.count(change.old) == 1, f"a change must say exactly where it is to be made: {change.old!r}"
        self._texts[change.path].append(text.replace(change.old, change.new))
        if change.undone() in self._made:
            self._made.remove(change.undone())
        else:
            self._made.append(change)

    def _settle(self, paths: Iterable[str], seen: Sequence[Seen]) -> Steps[bool]:
        """See to it that the files are as expected if any call was not simply done. True if something had to be done.

        A call that was interrupted may have happened or not: only the file knows.
        """
        if all(each.ok for each in seen):
            return False
        trouble = next(each for each in seen if not each.ok)
        repaired = False
        for path in sorted(paths):
            text = f"I am not sure what became of {path} ({trouble.error}), so I look."
            (found,) = yield Turn(text, (workshop.read(path),))
            content = yield from whole_text(path, found)
            repaired |= yield from self._settle_one(path, content, trouble)
        return repaired

    def _settle_one(self, path: str, found: str | None, trouble: Seen) -> Steps[bool]:
        texts = self._texts[path]
        if found == texts[-1]:
            return False
        if found is None:
            raise Stuck(f"I cannot read {path} any more, and do not know whether it was changed ({trouble.error}).")
        if found not in texts:
            texts[:] = [found]
            raise Stuck(f"Somebody else has changed {path} meanwhile; I leave it alone.")
        if trouble.kind in workshop.NOT_SURE:
            wanted = texts[-1]
            (written,) = yield Turn(f"It was not changed: I do it now, {path}.", (workshop.write(path, wanted),))
            if written.ok:
                return True
            trouble = written
        self._made = [change for change in self._made if change.path != path]
        self._useless = None
        texts.append(found)
        raise Stuck(f"I could not change {path}: {trouble.error}.")

    def _candidates(self, best: Report) -> list[Mutation]:
        """Those that helped before, then those that were not tried yet, likeliest first."""
        known = {_place(mutation) for mutation in self.tried} - self._helped
        ranked = mutations(rank(Index(list(self._sources.values())), best.failures))
        candidates = [mutation for mutation in ranked if _place(mutation) not in known]
        return _first(candidates, [mutation for mutation in candidates if _place(mutation) in self._helped])

    def _is_python(self, mutation: Mutation) -> bool:
        try:
            ast.parse(self._sources[mutation.path].text.replace(mutation.old, mutation.new))
        except (SyntaxError, ValueError):
            return False
        return True


def _change(mutation: Mutation) -> _Change:
    return _Change(mutation.path, mutation.old, mutation.new)


def _place(mutation: Mutation) -> tuple[str, str, str]:
    """What makes two candidates the same, whatever surrounds them by now."""
    return mutation.path, mutation.old, mutation.new


def _line(mutation: Mutation) -> tuple[str, int]:
    return mutation.path, mutation.line


def _first(candidates: list[Mutation], preferred: list[Mutation]) -> list[Mutation]:
    return preferred + [mutation for mutation in candidates if mutation not in preferred]
