"""The built-in strategy `coder`: repairs failing Python tests by careful trial, without a language model.

It does what an engineer does first: look around, run the tests, read the failing test and the code behind it, suspect
what the evidence points to, change one small thing, run the tests again, and put back what did not help.
"""

import math
import re

from ostler.adapters.providers.repair import workshop
from ostler.adapters.providers.repair.mutations import Mutation
from ostler.adapters.providers.repair.reports import Report
from ostler.adapters.providers.repair.script import Script, Steps, Stuck, Turn
from ostler.adapters.providers.repair.survey import Survey, surely_ran
from ostler.adapters.providers.repair.trial import Trial

HOW_TO_GET_A_MODEL = """\
For anything else, give this agent a live model: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or OPENAI_BASE_URL for any \
server that speaks Chat Completions (vLLM, llama.cpp, LM Studio), or start Ollama on this machine. Then run it again, \
with --model NAME to choose one."""

OTHER_GOAL = f"""\
I am the built-in strategy: deterministic code that plays the model, so that everything works without one. All that I \
can do is to repair a Python project whose tests fail: ask me to "make the tests pass".

{HOW_TO_GET_A_MODEL}"""

COMMITS_MAX = 2
"""How often a commit is proposed, if nobody knows what became of the first."""

_ABOUT_TESTS = re.compile(r"\b(tests?|testing|unittest|pytest|fix\w*|bugs?|broken|repair\w*|debug\w*|fail\w*)\b", re.I)


def repair(goal: str) -> Script:
    """The script for a goal such as "make the tests pass"."""
    if not _ABOUT_TESTS.search(goal):
        return OTHER_GOAL
    try:
        return (yield from _repair())
    except Stuck as stuck:
        return str(stuck)


def _repair() -> Script:
    survey = Survey()
    yield from survey.look_around()
    first = yield from survey.run_tests()
    if first.passed:
        return f"All {first.tests} tests pass already (`{' '.join(survey.command)}`): there is nothing to repair."
    yield from survey.read_around(first)
    # A change can make a loop endless: no candidate is given much longer than the tests took as they were.
    trial = Trial(survey.command, survey.sources, timeout_s=10 + 3 * math.ceil(first.seconds))
    try:
        last = yield from trial.search(first)
    except Stuck as stuck:
        yield from _put_back(trial, why=str(stuck))
        raise Stuck(f"{stuck} All other files are as they were.") from None
    if last.passed:
        commit = "Not committed: this folder is no git repository."
        if survey.has_git:
            commit = yield from _show_and_commit(trial.kept, first, last)
        return _repaired(trial, " ".join(survey.command), first, last, commit)
    yield from _put_back(trial, why="I found no change that makes all tests pass.")
    return _gave_up(trial, first)


def _put_back(trial: Trial, *, why: str) -> Steps[None]:
    try:
        yield from trial.put_back()
    except Stuck as stuck:
        raise Stuck(f"{why} I could not put back what I had tried: {stuck} Look at the files first.") from None


def _gave_up(trial: Trial, first: Report) -> str:
    where = ", ".join(dict.fromkeys(f"{mutation.function} ({mutation.path})" for mutation in trial.tried))
    tried = "I found nothing to try."
    if where:
        tried = f"I tried {_count(len(trial.tried), 'small change')} to {where}; none made all tests pass."
    names = ", ".join(dict.fromkeys(failure.function for failure in first.failures)) or "the output does not say which"
    return (
        f"I could not repair this: {first.failed or 'some'} of {first.tests} tests fail ({names}). {tried} "
        "All files are as they were.\n\n"
        f"I know only small slips: a wrong comparison, off by one, and/or, min/max and the like. {HOW_TO_GET_A_MODEL}"
    )


def _repaired(trial: Trial, command: str, first: Report, last: Report, commit: str) -> str:
    was_wrong = "\n".join(
        f"- {mutation.function} ({mutation.path}, line {mutation.line}) said `{mutation.before}`; "
        f"now it says `{mutation.after}`."
        for mutation in trial.kept
    )
    shown_by = "\n".join(f"- {failure.function}: {failure.message}" for failure in first.failures)
    return (
        f"Repaired: all {last.tests} tests pass (`{command}`).\n\n"
        f"What was wrong:\n{was_wrong}\n\nWhat showed it:\n{shown_by}\n\n{commit} "
        f"I found it by trying {_count(len(trial.tried), 'small change')}: the tests agree, but whether it is what was "
        "meant is for a person to judge."
    )


def _show_and_commit(kept: list[Mutation], first: Report, last: Report) -> Script:
    text = f"All {last.tests} tests pass now. I look at the whole change."
    ask = workshop.run("git", "diff")
    (seen,) = yield Turn(text, (ask,))
    seen = yield from surely_ran(seen, ask)
    diff = workshop.ran(seen)
    if diff is None or diff.exit != 0:
        return f"Not committed: {_first_line(seen.error if diff is None else diff.output) or 'git could not be run'}."
    if not diff.output.strip():
        return "Not committed: git sees no change to a file that it tracks."
    return (yield from _commit(kept, first))


def _commit(kept: list[Mutation], first: Report) -> Script:
    """Propose to commit what was changed and nothing else; what came of it, as a sentence."""
    message = _message(kept, first)
    subject = message.splitlines()[0]
    propose = workshop.run("git", "commit", "-m", message, "--", *sorted({mutation.path for mutation in kept}))
    text = "I propose to commit this change; a person decides."
    for _ in range(COMMITS_MAX):
        (seen,) = yield Turn(text, (propose,))
        done = workshop.ran(seen)
        if done is not None:
            problem = _first_line(done.output) or f"git commit ended with {done.exit}"
            return f"Committed as `{subject}`." if done.exit == 0 else f"Not committed: {problem}."
        if seen.kind != "unknown":
            return f"Not committed: {seen.error.rstrip('.')}."
        text = f"Nobody knows whether the commit was made ({seen.error}), so I look."
        (seen,) = yield Turn(text, (workshop.run("git", "log", "-1", "--format=%s"),))
        newest = workshop.ran(seen)
        if newest is not None and newest.output.strip() == subject:
            return f"Committed as `{subject}`."
        text = "It was not made. I propose it again; a person decides."
    return "Whether it was committed is not known: look at `git log`."


def _message(kept: list[Mutation], first: Report) -> str:
    functions = ", ".join(dict.fromkeys(mutation.function for mutation in kept))
    changes = "\n".join(f"`{mutation.before}` is now `{mutation.after}`." for mutation in kept)
    tests = ", ".join(dict.fromkeys(failure.function for failure in first.failures))
    return f"Fix {functions}\n\n{changes}\nShown by {tests}."


def _first_line(text: str) -> str:
    return next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
