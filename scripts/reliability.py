"""Writes docs/reference/reliability.md: which fault is shown by which test, and how that went, from a real run.

`--check` runs nothing: it fails if the page names tests that are not there, lacks some that are, or tells of a failure.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.rows import ROWS  # noqa: E402 - the tests are no package that is installed

PAGE = ROOT / "docs" / "reference" / "reliability.md"
BEGIN = "<!-- made by scripts/reliability.py from a run of the tests; `make reliability` writes it anew -->"
END = "<!-- end of what is made -->"
TESTS = ("tests/faults", "tests/adapters/store/test_postgres_faults.py")
"""Where tests bear the mark."""

Results = dict[int, dict[str, str]]
"""For each row its tests (`path::name`, all parameters together) and how they went."""

_LINE = re.compile(r"^\| \d* \| [^|]* \| \[[^\]]*\]\(\.\./\.\./([^)#]+)#?\) `(\w+)` \| (\w+)[^|]* \|$")


class Recorder:
    """A plugin of pytest that keeps the marked tests and remembers how they went."""

    def __init__(self) -> None:
        self.rows: dict[str, set[int]] = defaultdict(set)
        self.outcomes: dict[str, list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        elsewhere = defaultdict(set)
        for row in ROWS:
            for test in row.tests:
                elsewhere[test].add(row.number)
        kept, left_out = [], []
        for item in items:
            name = _without_parameters(item.nodeid)
            rows = {row for mark in item.iter_markers("fault") for row in mark.args} | elsewhere[name]
            self.rows[name] |= rows
            (kept if rows else left_out).append(item)
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[_without_parameters(report.nodeid)].append(report.outcome)

    def results(self) -> Results:
        results: Results = {row.number: {} for row in ROWS}
        for name, rows in self.rows.items():
            outcomes = self.outcomes.get(name, [])
            worst = next((outcome for outcome in ("failed", "skipped") if outcome in outcomes), "passed")
            how = f"{worst} (× {len(outcomes)})" if len(outcomes) > 1 else worst
            for row in rows:
                results[row][name] = how
        return results


def _without_parameters(nodeid: str) -> str:
    path, _, rest = nodeid.partition("::")
    name = rest.partition("[")[0]
    if "::" in name:  # the methods of a class count together
        name = name.partition("::")[0]
    return f"{path}::{name}"


def made(results: Results) -> str:
    """The part of the page that is made."""
    lines = [BEGIN, "", "| # | fault | test | result |", "|---|---|---|---|"]
    for row in ROWS:
        tests = sorted(results[row.number].items(), key=lambda test: (row.tests.count(test[0]), test[0]))
        for place, (name, how) in enumerate(tests):
            path, _, test = name.partition("::")
            first = (f"{row.number}", f"{row.fault}: *{row.holds}*") if place == 0 else ("", "")
            lines.append(f"| {first[0]} | {first[1]} | [{Path(path).stem}](../../{path}) `{test}` | {how} |")
        if row.open:
            first = ("", "") if tests else (f"{row.number}", f"{row.fault}: *{row.holds}*")
            lines.append(f"| {first[0]} | {first[1]} | | {'but' if tests else 'not tested'}: {row.open} |")
    return "\n".join([*lines, "", END])


def named(page: str) -> dict[str, str]:
    """The tests that a page names, and how it says that they went."""
    return {f"{match[1]}::{match[2]}": match[3] for line in page.splitlines() if (match := _LINE.match(line))}


def gather(*, run: bool) -> tuple[Recorder, int]:
    recorder = Recorder()
    elsewhere = {test.partition("::")[0] for row in ROWS for test in row.tests}
    where = [*TESTS, *sorted(path for path in elsewhere if not path.startswith(TESTS[0]))]
    options = ["-q", "--rootdir", str(ROOT)] if run else ["-q", "-q", "--collect-only", "--rootdir", str(ROOT)]
    code = pytest.main([*options, *(str(ROOT / path) for path in where)], plugins=[recorder])
    return recorder, int(code)


def problems(page: str, recorder: Recorder) -> list[str]:
    """What is wrong with a page, given the tests that there are."""
    there = {name for name, rows in recorder.rows.items() if rows}
    told = named(page)
    found = [f"{name} is not on the page" for name in sorted(there - told.keys())]
    found += [f"{name} is on the page, and not there" for name in sorted(told.keys() - there)]
    found += [f"{name} {how}" for name, how in told.items() if how != "passed"]
    found += [f"row {row.number} is not on the page" for row in ROWS if f"\n| {row.number} | " not in page]
    return found


def main() -> int:
    recorder, code = gather(run="--check" not in sys.argv)
    page = PAGE.read_text("utf-8")
    if "--check" in sys.argv:
        found = problems(page, recorder)
        sys.stderr.write("".join(f"{problem}\n" for problem in found))
        return 1 if found else 0
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return code  # not all tests were even found
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{made(recorder.results())}{after}", "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
