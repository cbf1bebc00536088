"""The policies that a session is under, compiled, and what they want to know of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ostler.domain.constraint.check import called_as
from ostler.domain.constraint.compile import Compiled, compile_policy
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.history import Question, RateLimit
from ostler.domain.constraint.layers import judge_layers
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.targets import Called, concerns
from ostler.domain.constraint.verdict import Verdict
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import PolicyInvalid

_ANSWERED_BY_THE_SESSION = "session"


class Answers(NamedTuple):
    """The answers to `own_questions` and to `questions` of a guard, in their order."""

    own: tuple[float, ...] = ()
    others: tuple[float, ...] = ()


class _Compiled(NamedTuple):
    """Everything that follows from the policies alone."""

    layers: tuple[Compiled, ...]
    shadow: tuple[Compiled, ...]
    own_questions: tuple[Question, ...]
    questions: tuple[Question, ...]
    uses: frozenset[str]


class Guard:
    """Judges calls by all policies of a session at once: the agent's own and the layers above it, the outermost first.

    What `shadow` policies say is recorded and never enforced. They are compiled when they are first asked.
    """

    __slots__ = ("_compiled", "_fixed", "_redactions", "_visible", "policies", "shadow")

    def __init__(self, policy: Policy, layers: Sequence[Policy] = (), shadow: Sequence[Policy] = ()) -> None:
        self.policies = (*layers, policy)
        self.shadow = tuple(shadow)
        self._compiled: _Compiled | None = None
        self._visible: tuple[ToolSpec, ...] | None = None
        self._fixed: dict[Called, Verdict | None] = {}
        self._redactions: dict[Called, tuple[str, ...]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guard) and (other.policies, other.shadow) == (self.policies, self.shadow)

    __hash__ = None  # type: ignore[assignment]

    @property
    def compiled(self) -> _Compiled:
        """What cannot be compiled any more denies everything; that it could be was seen to when the session started."""
        if self._compiled is None:
            layers = tuple(_compiled(policy) for policy in self.policies)
            shadow = tuple(_compiled(policy) for policy in self.shadow)
            every = (*layers, *shadow)
            asked = dict.fromkeys(question for policy in every for question in policy.history)
            own = tuple(question for question in asked if question.per == _ANSWERED_BY_THE_SESSION)
            others = tuple(question for question in asked if question.per != _ANSWERED_BY_THE_SESSION)
            uses = frozenset().union(*(policy.uses for policy in every))
            self._compiled = _Compiled(layers, shadow, own, others, uses)
        return self._compiled

    @property
    def own_questions(self) -> tuple[Question, ...]:
        """What the session's own past must answer."""
        return self.compiled.own_questions

    @property
    def questions(self) -> tuple[Question, ...]:
        """What the pasts of other sessions must answer, too."""
        return self.compiled.questions

    @property
    def uses(self) -> frozenset[str]:
        """The names of the facts that any of the policies reads."""
        return self.compiled.uses

    def asks_others_about(self, called: Called) -> bool:
        """Whether such calls can only be judged once somebody has looked at the pasts of other sessions."""
        if not self.compiled.questions:
            return False
        return any(
            policy.history[number].per != _ANSWERED_BY_THE_SESSION
            for policy in (*self.compiled.layers, *self.compiled.shadow)
            for number in policy.asks_about(called)
        )

    def fixed(self, what: Called) -> Verdict | None:
        """The verdict on such calls where no rule of any policy speaks of them, whatever else is known."""
        if what not in self._fixed:
            policies = (*self.compiled.layers, *self.compiled.shadow)
            is_fixed = not self.shadow and not any(policy.program(what).rules for policy in policies)
            plain = Facts(operation=what.operation, tool=what.tool, roles=what.roles, effect=what.effect)
            self._fixed[what] = judge_layers(self.compiled.layers, plain) if is_fixed else None
        return self._fixed[what]

    def judge(self, facts: Facts, answers: Answers) -> Verdict:
        """The verdict of all layers together."""
        layers = self.compiled.layers
        if len(layers) == 1:
            return layers[0].judge(self._with_history(layers, facts, answers))
        return judge_layers(layers, self._with_history(layers, facts, answers))

    def try_out(self, facts: Facts, answers: Answers) -> tuple[str, ...]:
        """What each policy says that is only tried, as `deny name@version#rule`."""
        said = []
        for policy in self.compiled.shadow:
            verdict = policy.judge(self._for_one(policy, facts, answers))
            said.append(f"{verdict.effect} {policy}" + (f" {verdict.rule}" if verdict.rule else ""))
        return tuple(said)

    def risk_parts(self, facts: Facts, answers: Answers) -> tuple[tuple[str, float], ...]:
        """What the risk score of a call is made of: what, and how much."""
        found: dict[str, float] = {}
        for policy in self.compiled.layers:
            explanation = policy.explain(self._for_one(policy, facts, answers))
            found |= {part.because: float(part.amount) for part in explanation.risk if part.counts}
        return tuple(found.items())

    def limits_on(self, called: Called) -> tuple[tuple[Compiled, RateLimit], ...]:
        """The sliding windows that such calls draw on and that sessions share."""
        return tuple(
            (policy, limit)
            for policy in self.compiled.layers
            for limit in policy.limits
            if limit.per != _ANSWERED_BY_THE_SESSION and concerns(limit.targets, called)
        )

    def redactions(self, called: Called) -> tuple[str, ...]:
        """The detectors whose findings are taken out of what such calls bring."""
        if called not in self._redactions:
            names = (name for policy in self.compiled.layers for name in policy.redactions(called))
            self._redactions[called] = tuple(dict.fromkeys(names))
        return self._redactions[called]

    def detectors(self, tools: Sequence[ToolSpec], model: str) -> tuple[str, ...]:
        """All that look for something in what these tools and this model bring."""
        specs: tuple[ToolSpec | None, ...] = (None, *tools)
        return tuple(dict.fromkeys(name for spec in specs for name in self.redactions(called(spec, model))))

    def visible(self, tools: tuple[ToolSpec, ...], inputs: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
        """The tools of which some call could be allowed or approved; the model need not know the others.

        A guard is of one session, whose tools and inputs do not change.
        """
        if self._visible is None:
            layers = self.compiled.layers
            kept = tuple(tool for tool in tools if all(policy.could_allow(tool, inputs) for policy in layers))
            self._visible = tools if len(kept) == len(tools) else kept
        return self._visible

    def problems_with(self, inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with the inputs that a session is started with.

        Raises `PolicyInvalid` with every mistake in the texts of the policies.
        """
        for written in (*self.policies, *self.shadow):
            compile_policy(written)
        declared = {name for policy in self.compiled.layers for name in policy.inputs}
        problems = [
            (f"inputs.{name}", "is declared by no policy" + (f" (did you mean {near!r}?)" if near else ""))
            for name in inputs
            if name not in declared
            for near in [did_you_mean(name, list(declared))]
        ]
        for policy in self.compiled.layers:
            own = {name: value for name, value in inputs.items() if name in policy.inputs}
            problems += [(f"inputs.{name}", problem) for name, problem in policy.problems_with(own)]
        return list(dict.fromkeys(problems))

    def _for_one(self, policy: Compiled, facts: Facts, answers: Answers) -> Facts:
        """The facts as one policy is given them: with its own answers, and of the inputs those that it declares."""
        own = {name: value for name, value in facts.inputs.items() if name in policy.inputs}
        given = facts if len(own) == len(facts.inputs) else msgspec.structs.replace(facts, inputs=own)
        return self._with_history((policy,), given, answers)

    def _with_history(self, policies: Sequence[Compiled], facts: Facts, answers: Answers) -> Facts:
        """The facts with the answers that these policies want, one policy after the other."""
        if not any(policy.history for policy in policies):
            return facts
        known = dict(zip(self.own_questions, answers.own, strict=True)) | dict(
            zip(self.questions, answers.others or (0.0,) * len(self.questions), strict=True)
        )
        history = tuple(known[question] for policy in policies for question in policy.history)
        return msgspec.structs.replace(facts, history=history)


def _compiled(policy: Policy) -> Compiled:
    try:
        return compile_policy(policy)
    except PolicyInvalid:
        return compile_policy(Policy(policy.name, policy.version, default="deny"))


NOBODYS = Guard(Policy(default="deny"))
"""The guard of a session that is only looked at: no call is judged there, and if one were, it would be refused."""


def called(spec: ToolSpec | None, model: str) -> Called:
    """What is known of a call of this tool (None: of this model) before its arguments are."""
    return called_as(spec) if spec is not None else Called("model", model, frozenset(), "read")
