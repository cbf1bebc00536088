"""Makes of a policy what judges calls."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from ostler.domain.constraint.check import called_as, check
from ostler.domain.constraint.explanation import Explanation, explained
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.folding import Foldings
from ostler.domain.constraint.implied import with_implied
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.prepare import (
    facts_used,
    guarded_rules,
    plain_rules,
    questions,
    rate_limits,
    risk_shares,
    with_risk,
)
from ostler.domain.constraint.printer import show
from ostler.domain.constraint.problems import problem_at, refusal
from ostler.domain.constraint.program import Program, Rule, Stamp, known_of
from ostler.domain.constraint.slots import input_value
from ostler.domain.constraint.syntax import NOWHERE, Input, Parsed, Redact
from ostler.domain.constraint.targets import Called, concerns
from ostler.domain.constraint.values import Fault
from ostler.domain.constraint.verdict import Verdict
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec

PROGRAMS_MAX = 1024
"""So many kinds of calls are kept ready by one policy; beyond that it begins anew."""


def compile_policy(policy: Policy) -> "Compiled":
    """What judges by a policy; made once for equal policies. Raises `PolicyInvalid` with every mistake in its text."""
    return _compile(msgspec.json.encode(policy))


@lru_cache(maxsize=256)
def _compile(encoded: bytes) -> "Compiled":
    return Compiled(msgspec.json.decode(encoded, type=Policy))


def policy_of(text: str, source: str = "policy") -> Policy:
    """The policy that a text in the language of rules is. Raises `PolicyInvalid` with every mistake."""
    parsed = parse(text, source)
    policy = Policy(name=parsed.name, version=parsed.version, default=parsed.default, text=text)
    problems = check(with_implied(parsed))
    if problems:
        raise refusal(source, text, problems)
    return policy


class Compiled:
    """A policy that judges.

    `uses` names what it asks of a call beyond the call itself, so that callers find out only that: `history`,
    `sources`, and facts by their names (`context.labels`, `risk_score` …). `inputs` are its declared inputs by name.
    `history` are its questions, which `Facts.history` must answer in their order; `limits` are its sliding windows.
    """

    def __init__(self, policy: Policy) -> None:
        self.name, self.version = policy.name, policy.version
        parsed = _read(policy)
        self.digest = hashlib.sha256(_deciding(policy, parsed)).hexdigest()
        self._default = policy.default if parsed is None else parsed.default
        written = with_risk(parsed or Parsed(policy.name))
        self.inputs: Mapping[str, Input] = {one.name: one for one in written.inputs}
        self.history = tuple(questions(written))
        self._questions = {question: number for number, question in enumerate(self.history)}
        self.limits = tuple(rate_limits(written, self._questions))
        self._rules = list(plain_rules(policy) if parsed is None else guarded_rules(written, self.inputs))
        self._shares = list(risk_shares(written, self.inputs))
        self.uses = frozenset(facts_used(written))
        self._redactions = [rule for rule in written.rules if isinstance(rule, Redact)]
        self._stamp = Stamp(self.name, self.version, self.digest)
        self._foldings = Foldings()
        self._programs: dict[tuple[int, ...], Program] = {}
        self._by_call: dict[tuple[Any, ...], Program] = {}

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def judge(self, facts: Facts) -> Verdict:
        """What the policy says of a call. Never raises: what cannot be evaluated denies."""
        try:
            program = self._by_call[facts.operation, facts.tool, facts.roles, facts.effect]
        except (KeyError, TypeError):
            return self._judge_first(facts)
        return program.judge(facts)

    def explain(self, facts: Facts) -> Explanation:
        """The verdict, and for every rule that concerns the call whether it matched, and what kept it from matching."""
        return explained(self.program(_called(facts)), self.judge(facts), facts)

    def program(self, called: Called) -> Program:
        """The rules about one kind of call, compiled. Kinds that no rule tells apart share one."""
        program = self._by_call.get(called)
        if program is None:
            if len(self._by_call) >= PROGRAMS_MAX:
                self._by_call.clear()
                self._programs.clear()
                self._foldings.clear()
            program = self._by_call[called] = self._shared_program(called)
        return program

    def _shared_program(self, called: Called) -> Program:
        known, left_of = known_of(called), self._foldings.left_of
        rules = [
            Rule(prepared, left_of(prepared.condition, known))
            for targets, prepared in self._rules
            if concerns(targets, called)
        ]
        parts = [(part, left_of(part.condition, known)) for targets, part in self._shares if concerns(targets, called)]
        key = (called.operation == "model", *(id(each) for pair in (*rules, *parts) for each in pair))
        program = self._programs.get(key)
        if program is None:
            program = Program(
                self._stamp,
                called,
                rules,
                parts,
                inputs=self.inputs,
                questions=self._questions,
                default=self._default,
            )
            self._programs[key] = program
        return program

    def redactions(self, called: Called) -> tuple[str, ...]:
        """The detectors whose findings are taken out of the output of such calls."""
        found = (name for rule in self._redactions if concerns(rule.targets, called) for name in rule.detectors)
        return tuple(dict.fromkeys(found))

    def asks_about(self, called: Called) -> frozenset[int]:
        """The questions about the past, by their number, that judging such calls needs the answers of."""
        slots = self.program(called).slots.all.values()
        return frozenset(int(slot.path[0]) for slot in slots if slot.origin == "history")

    def could_allow(self, spec: ToolSpec, inputs: Mapping[str, Any] | None = None) -> bool:
        """False if no call of the tool can be allowed or approved, whatever its arguments: it need not be shown.

        With the `inputs` of a session, what they decide is decided too.
        """
        return self.program(called_as(spec)).could_allow(inputs)

    def problems_with(self, given: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with the inputs that a session is started with: (name, what) for each."""
        problems: list[tuple[str, str]] = []
        for name in given:
            if name not in self.inputs:
                near = did_you_mean(name, self.inputs)
                problems.append((name, "is no input" + (f" (did you mean {near!r}?)" if near else "")))
        for name, declared in self.inputs.items():
            if name not in given and declared.default is None:
                problems.append((name, f"is missing: a {declared.kind}"))
            elif name in given:
                try:
                    input_value(declared, given[name])
                except Fault as fault:
                    problems.append((name, fault.what))
        return problems

    def _judge_first(self, facts: Facts) -> Verdict:
        try:
            program = self.program(_called(facts))
        except Exception as error:
            return self._stamp.verdict(
                "deny", f"{self.name}#error", f"the call cannot be judged: {type(error).__name__} (policy.error.failed)"
            )
        return program.judge(facts)


def _called(facts: Facts) -> Called:
    return Called(facts.operation, facts.tool, frozenset(facts.roles), facts.effect)


def _read(policy: Policy) -> Parsed | None:
    """The text of a policy, read and checked, under the name of the policy; None if it has none."""
    source = f"policy {policy.name}"
    if not policy.text:
        return None
    if policy.rules:
        raise refusal(source, policy.text, [problem_at(NOWHERE, "a policy has rules or a text, not both")])
    parsed = with_implied(parse(policy.text, source))
    problems = check(parsed)
    if problems:
        raise refusal(source, policy.text, problems)
    return Parsed(policy.name, policy.version, parsed.default, parsed.statements)


def _deciding(policy: Policy, parsed: Parsed | None) -> bytes:
    """Everything that decides: the text as it is printed, without comments, or the rules."""
    return show(parsed).encode() if parsed is not None else msgspec.json.encode(policy)
