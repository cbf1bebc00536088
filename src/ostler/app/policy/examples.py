"""Examples of what a policy is meant to say of calls, in a file beside it, and whether it does."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ostler.app import definition
from ostler.app.policies import rules_of
from ostler.app.policy.case import Case, read_cases
from ostler.app.policy.files import parsed_of, policy_from
from ostler.app.policy.witness import judged, matched
from ostler.domain.constraint.compile import Compiled, compile_policy
from ostler.domain.constraint.syntax import Redact
from ostler.kernel.errors import DefinitionInvalid, NotFound

ENDINGS = (".examples.toml", ".examples.json")
RULES = ".rules"


class Example(Case, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A call and what is expected of it: the verdict, and where it matters the rule that decides or asks."""

    name: str = ""
    expect: Literal["allow", "deny", "require"]
    rule: str = ""


class ExampleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Examples for one policy: the file of rules beside it with the same name, or the one that is named."""

    examples: tuple[Example, ...]
    policy: str = ""


class Tried(msgspec.Struct, frozen=True, omit_defaults=True):
    """An example and what came of it."""

    name: str
    is_met: bool
    expected: str
    verdict: str
    reason: str = ""
    matched: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of the examples of one file, and which rules of the policy no example matches."""

    file: str
    policy: str
    tried: tuple[Tried, ...]
    untouched: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        return all(one.is_met for one in self.tried)


def example_files(place: Path) -> list[Path]:
    """The files of examples at a place: a folder with all that is in it, a file of rules or of examples.

    Raises `NotFound` if there are none.
    """
    if place.is_dir():
        found = sorted(path for path in place.rglob("*.examples.*") if path.name.endswith(ENDINGS))
    elif place.name.endswith(RULES):
        beside = [place.with_name(place.name.removesuffix(RULES) + ending) for ending in ENDINGS]
        found = [path for path in beside if path.is_file()]
    else:
        found = [place] if place.is_file() else []
    if not found:
        raise NotFound(
            f"There are no examples at {place}.",
            hint="Examples for payments.rules are in payments.examples.toml beside it.",
        )
    return found


def try_examples(path: Path) -> Report:
    """Judge every example of a file. Raises `DefinitionInvalid` with every problem, `PolicyInvalid`, `NotFound`."""
    file = _read(path)
    rules = path.with_name(file.policy or _stem(path) + RULES)
    text, name = rules_of(str(rules))
    policy = policy_from(text, name)
    compiled = compile_policy(policy)
    touched: set[str] = set()
    tried = []
    for number, example in enumerate(file.examples, 1):
        names = matched(compiled, example)
        touched.update(names)
        tried.append(_tried(compiled, example, example.name or f"example {number}", names))
    speaking = [name for name, rule in parsed_of(policy).named_rules() if not isinstance(rule, Redact)]
    untouched = tuple(name for name in speaking if name not in touched)
    return Report(str(path), str(rules), tuple(tried), untouched)


def _tried(compiled: Compiled, example: Example, name: str, names: Sequence[str]) -> Tried:
    verdict = judged(compiled, example)
    cited = {verdict.rule, *(demand.rule for demand in verdict.demands)}
    is_met = verdict.effect == example.expect and (not example.rule or example.rule in cited)
    expected = f"{example.expect} by {example.rule}" if example.rule else example.expect
    said = f"{verdict.effect} by {verdict.rule}" if verdict.rule else f"{verdict.effect} by default"
    return Tried(name, is_met, expected, said, verdict.reason, tuple(names))


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(ending) for ending in (*ENDINGS, path.suffix) if path.name.endswith(ending))


def _read(path: Path) -> ExampleFile:
    data = read_table(path)
    problems = definition.problems_in({**data, "examples": []}, ExampleFile)
    listed = data.get("examples", [])
    if not isinstance(listed, list) or not listed:
        problems.append(("examples", "is to be a list of at least one example"))
    if problems:
        raise DefinitionInvalid(str(path), problems)
    examples = read_cases(listed, Example, source=str(path), path="examples")
    return ExampleFile(tuple(examples), data.get("policy", ""))


def read_table(path: Path) -> dict[str, Any]:
    """A table of TOML or JSON. Raises `NotFound`, `DefinitionInvalid`."""
    try:
        text = path.read_text("utf-8")
        data = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise DefinitionInvalid(str(path), [("", f"is not valid: {error}")]) from error
    if not isinstance(data, dict):
        raise DefinitionInvalid(str(path), [("", "is to be a table")])
    return data


def tried_at(place: Path) -> Iterator[Report]:
    """What came of all examples at a place, file by file."""
    for path in example_files(place):
        yield try_examples(path)
