"""What a test run says: how many tests ran, which failed, and where the failures came from."""

import re
from collections.abc import Iterable

import msgspec

from ostler.adapters.providers.repair.workshop import Ran


class Frame(msgspec.Struct, frozen=True):
    """One line of a traceback."""

    path: str
    line: int
    function: str


class Failure(msgspec.Struct, frozen=True):
    """One failing test: its name, its traceback from the outside in, and the last line, which says what was wrong."""

    test: str
    frames: tuple[Frame, ...]
    message: str

    @property
    def function(self) -> str:
        """The bare name of the test function."""
        return re.split(r"[ \[(]", self.test, maxsplit=1)[0].rsplit(".", 1)[-1]


class Report(msgspec.Struct, frozen=True):
    """A test run. `failed` is how many tests it says have failed; of those, `failures` are the ones that could be read.

    `tests` and `seconds` are 0 if the output does not say how many ran, and how long.
    """

    passed: bool
    tests: int
    seconds: float
    failed: int
    failures: tuple[Failure, ...]
    output: str

    @property
    def names(self) -> frozenset[str]:
        return frozenset(failure.test for failure in self.failures)

    def improves_on(self, other: "Report") -> bool:
        """Everything passes, or some failures are gone and there is no new one; with no fewer tests either way."""
        if self.tests < other.tests:
            return False
        if self.passed:
            return True
        return 0 < self.failed < other.failed and bool(self.failures) and self.names < other.names


_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in .*\s+(?:OK|FAILED|NO TESTS RAN)?.*$", re.M)
_SECONDS = re.compile(r"^(?:Ran \d+ tests? in|.*\d+ (?:passed|failed|errors?).* in) (\d+(?:\.\d+)?)s", re.M)
_UNITTEST_FAILED = re.compile(r"(?:failures|errors|unexpected successes)=(\d+)")
_PYTEST_PASSED = re.compile(r"\b(\d+) (?:passed|xfailed|xpassed|skipped)\b")
_PYTEST_FAILED = re.compile(r"\b(\d+) (?:failed|errors?)\b")
_UNITTEST_HEADER = re.compile(r"^={20,}\n(?:FAIL|ERROR): (.+)\n", re.M)
_PYTEST_HEADER = re.compile(r"^_{3,} (?:ERROR (?:at \w+ of|collecting) )?(\S.*?) _{3,}$", re.M)
_FRAME = re.compile(r'^\s*File "([^"\n]+)", line (\d+), in (\S+)', re.M)
_MESSAGE = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Failure|Warning|Interrupt|Exit|Timeout)\b.*)$", re.M)


def read_report(run: Ran) -> Report:
    """Reads the output of unittest, or of pytest with native tracebacks."""
    output = run.output.replace("\r\n", "\n")
    summary = _UNITTEST_RAN.search(output)
    if summary:
        tests, failed = int(summary[1]), sum(map(int, _UNITTEST_FAILED.findall(summary[0])))
        header = _UNITTEST_HEADER
    else:
        last = output.strip().rsplit("\n", 1)[-1]
        failed = sum(map(int, _PYTEST_FAILED.findall(last)))
        tests = failed + sum(map(int, _PYTEST_PASSED.findall(last)))
        header = _UNITTEST_HEADER if _UNITTEST_HEADER.search(output) else _PYTEST_HEADER
    failures = tuple(_failures(output, header))
    seconds = max((float(found) for found in _SECONDS.findall(output)), default=0.0)
    return Report(run.exit == 0 and not failures, tests, seconds, failed, failures, output)


def _failures(output: str, header: re.Pattern[str]) -> Iterable[Failure]:
    heads = list(header.finditer(output))
    ends = [head.start() for head in heads[1:]] + [len(output)]
    for head, end in zip(heads, ends, strict=False):
        body = output[head.end() : end]
        frames = tuple(Frame(path, int(line), function) for path, line, function in _FRAME.findall(body))
        messages = _MESSAGE.findall(body)
        yield Failure(test=head[1].strip(), frames=frames, message=messages[-1].strip() if messages else "")
