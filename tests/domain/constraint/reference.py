"""What a policy says of a call, computed as simply as can be: the oracle of the compiler."""

import math
import operator
from fnmatch import fnmatchcase
from typing import Any

from ostler.domain.constraint import syntax as s
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.prepare import DEFAULT_RISK

NUMBERS = {"n1", "n2", "n", "m"}


class Wrong(Exception):
    """Something is missing or of the wrong type."""


def literals(collection: Any) -> list[Any]:
    return [one.value for one in collection.items]


class Reference:
    """Judges one call."""

    def __init__(self, parsed: s.Parsed, questions: Any, facts: Facts) -> None:
        self.parsed, self.facts = parsed, facts
        self.questions = list(questions)
        self.inputs = {one.name: one for one in parsed.inputs}
        self.risks = parsed.risks or parse(DEFAULT_RISK).risks

    def verdict(self) -> tuple[str, str]:
        """The effect, and the rule."""
        try:
            return self._verdict()
        except (Wrong, ArithmeticError):
            return "deny", f"{self.parsed.name}#error"

    def _verdict(self) -> tuple[str, str]:
        if set(self.facts.inputs) - set(self.inputs):
            raise Wrong
        rules = []
        for name, rule in self.parsed.named_rules():
            if isinstance(rule, s.Redact) or not self.concerns(rule.targets):
                continue
            condition = self.condition(rule)
            if self.known(condition) is not False:
                self.need(condition, set())
                rules.append((name, rule, condition))
        found: dict[str, str] = {}
        for name, rule, condition in rules:
            effect = {"Allow": "allow", "Require": "require"}.get(type(rule).__name__, "deny")
            if effect not in found and self.value(condition):
                found[effect] = name
        for effect in ("deny", "require", "allow"):
            if effect in found:
                return effect, found[effect]
        if self.facts.operation == "model" or self.parsed.default == "allow":
            return "allow", ""
        return "deny", f"{self.parsed.name}#default"

    def condition(self, rule: Any) -> s.Expression:
        if isinstance(rule, s.Limit):
            question = s.History(
                asks="SUM" if rule.argument else "COUNT",
                targets=rule.targets,
                within_us=rule.window_us,
                argument=rule.argument,
                per=rule.per,
            )
            return s.Compare(operator=">=", left=question, right=s.Number(value=rule.ceiling))
        parts = [rule.condition] if rule.condition is not None else []
        parts += [s.Not(operand=rule.unless)] if rule.unless is not None else []
        return s.And(operands=(s.Boolean(value=True), *parts))

    def concerns(self, targets: Any) -> bool:
        facts = self.facts
        for target in targets:
            tool = facts.operation == "tool"
            if target.space == "operation":
                return True
            if target.space == "role" and target.glob in facts.roles:
                return True
            if target.space == "effect" and tool and target.glob == facts.effect:
                return True
            if target.space == facts.operation and fnmatchcase(facts.tool, target.glob):
                return True
        return False

    def known(self, e: s.Expression) -> Any:
        """What is certain of a condition before the call: a truth value or a text, else None."""
        match e:
            case s.Boolean() | s.Text():
                return e.value
            case s.Name(path=("role", role)):
                return role in self.facts.roles
            case s.Name(path=("effect",)):
                return self.facts.effect
            case s.Name(path=("tool", "name")):
                return self.facts.tool
            case s.Not():
                inner = self.known(e.operand)
                return None if inner is None else not inner
            case s.And():
                values = [self.known(one) for one in e.operands]
                return False if False in values else None if None in values else True
            case s.Or():
                values = [self.known(one) for one in e.operands]
                return True if True in values else None if None in values else False
            case s.Compare() if isinstance(e.left, s.Name | s.Text | s.Boolean):
                left, right = self.known(e.left), self.known(e.right)
                return None if left is None or right is None else (left == right) == (e.operator == "==")
            case s.In() if isinstance(e.collection, s.SetOf):
                item = self.known(e.item)
                return None if item is None else self.held(item, literals(e.collection))
            case s.Matches(pattern=s.Text(value=glob)):
                text = self.known(e.text)
                return None if text is None else fnmatchcase(text, glob)
            case _:
                return None

    def need(self, e: s.Expression, present: set[Any]) -> set[Any]:
        """Raises `Wrong` unless everything is there that the condition uses; gives what is there if it holds."""
        if self.known(e) is not None and not isinstance(e, s.Text):
            return set()
        match e:
            case s.And() | s.Or():
                here = set(present)
                for one in e.operands:
                    self.need(one, here)
                    here |= self.there(one, holds=isinstance(e, s.And))
            case s.Name() | s.History():
                if isinstance(e, s.Name) and e.path == ("risk_score",):
                    for risk in self.risks:
                        if (
                            self.concerns(risk.targets)
                            and risk.condition is not None
                            and self.known(risk.condition) is not False
                        ):
                            self.need(risk.condition, set())
                self.fetch(e, is_optional=isinstance(e, s.Name) and e.path in present)
            case s.Arithmetic():
                leaves = [one for one in s.walk(e) if isinstance(one, s.Name | s.History)]
                for one in leaves:
                    self.need(one, present)
                optional = [one for one in leaves if isinstance(one, s.Name) and one.path in present]
                if all(self.fetch(one, is_optional=True) is not None for one in optional):
                    self.value(e)
            case s.Call():
                pass
            case s.From():
                self.fetch_any(e.value)
                if self.facts.sources is None:
                    raise Wrong
            case _:
                for part in s.parts_of(e):
                    self.need(part, present)
        return set()

    def there(self, e: s.Expression, *, holds: bool) -> set[Any]:
        match e:
            case s.Call(function="EXISTS", argument=s.Name(path=path)) if holds:
                return {path}
            case s.Not():
                return self.there(e.operand, holds=not holds)
            case s.And() if holds:
                return {path for one in e.operands for path in self.there(one, holds=True)}
            case s.Or() if not holds:
                return {path for one in e.operands for path in self.there(one, holds=False)}
        return set()

    def fetch_any(self, e: s.Expression) -> Any:
        assert isinstance(e, s.Name)
        value = self.facts.args.get(e.path[1])
        if value is None:
            raise Wrong
        return value

    def fetch(self, e: Any, *, is_optional: bool = False) -> Any:
        facts = self.facts
        if isinstance(e, s.History):
            for number, question in enumerate(self.questions):
                if (question.kind, question.targets, question.window_us, question.per) == (
                    e.asks,
                    e.targets,
                    e.within_us,
                    e.per,
                ):
                    return facts.history[number]
            raise AssertionError(e)
        path = e.path
        if path[0] == "args":
            value: Any = facts.args
            for part in path[1:]:
                value = value.get(part) if isinstance(value, dict) else None
            if value is None and is_optional:
                return None
            return self.typed(
                value, "number" if path[-1] in NUMBERS else {"t": "text", "b": "boolean", "l": "set"}[path[-1][0]]
            )
        if path[0] in self.inputs:
            declared = self.inputs[path[0]]
            if path[0] in facts.inputs:
                return self.typed(facts.inputs[path[0]], declared.kind)
            if declared.default is None:
                raise Wrong
            default: Any = declared.default
            return literals(default) if isinstance(default, s.SetOf) else literals(s.ListOf(items=(default,)))[0]
        if path[0] == "role":
            return path[1] in facts.roles
        if path == ("risk_score",):
            parts = [
                literals(s.ListOf(items=(risk.amount,)))[0]  # type: ignore[arg-type]
                for risk in self.risks
                if self.concerns(risk.targets) and (risk.condition is None or self.value(risk.condition))
            ]
            return min(1.0, max(0.0, round(math.fsum(parts), 6)))
        return {
            "session.steps": facts.steps,
            "agent.version": facts.agent_version,
            "agent.name": facts.agent,
            "effect": facts.effect,
            "tool.name": facts.tool,
            "context.untrusted": "untrusted" in facts.labels,
            "context.private": "private" in facts.labels,
            "context.labels": facts.labels,
            "destinations": facts.destinations,
        }[".".join(path)]

    def typed(self, value: Any, kind: str) -> Any:
        if kind == "number" and type(value) in (int, float) and (type(value) is int or math.isfinite(value)):
            return value
        if kind == "text" and isinstance(value, str):
            return value
        if kind == "boolean" and isinstance(value, bool):
            return value
        if kind == "set" and isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        raise Wrong

    def held(self, item: Any, collection: Any, *, globs: bool = True) -> bool:
        return any(item == one or (globs and fnmatchcase(item, one)) for one in collection)

    def within(self, item: Any, collection: s.Expression) -> bool:
        if isinstance(collection, s.SetOf):
            return self.held(item, literals(collection))
        globs = isinstance(collection, s.Name) and collection.path == ("hosts",)
        return self.held(item, self.fetch(collection), globs=globs)

    def value(self, e: s.Expression) -> Any:
        match e:
            case s.Boolean() | s.Number() | s.Text():
                return e.value
            case s.Name():
                return self.fetch(e)
            case s.History():
                answer = self.fetch(e)
                return answer if e.asks in ("COUNT", "SUM") else answer > 0
            case s.Not():
                return not self.value(e.operand)
            case s.And():
                return all(self.certain(one, False) is not False and self.value(one) for one in self.order(e, False))
            case s.Or():
                return any(self.value(one) for one in self.order(e, True))
            case s.Compare():
                left, right = self.value(e.left), self.value(e.right)
                return {
                    "==": left == right,
                    "!=": left != right,
                    "<": left < right if e.operator == "<" else None,
                    "<=": e.operator == "<=" and left <= right,
                    ">": e.operator == ">" and left > right,
                    ">=": e.operator == ">=" and left >= right,
                }[e.operator]
            case s.In() | s.Has():
                item = self.value(e.item)
                if isinstance(item, str):
                    return self.within(item, e.collection)
                return all(self.within(one, e.collection) for one in item)
            case s.Matches(pattern=s.Text(value=glob)):
                return fnmatchcase(self.value(e.text), glob)
            case s.From():
                assert self.facts.sources is not None
                return self.facts.sources.said(self.fetch_any(e.value), e.sources)
            case s.Call(argument=s.Name(path=path)):
                return self.facts.args.get(path[1]) is not None
            case s.Arithmetic():
                left, right = self.value(e.left), self.value(e.right)
                calculations = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
                result = calculations[e.operator](left, right)
                if isinstance(result, float) and not math.isfinite(result):
                    raise Wrong
                return result
            case _:
                raise AssertionError(e)

    def certain(self, e: s.Expression, wanted: bool) -> Any:
        return self.known(e)

    def order(self, e: Any, decides: bool) -> list[s.Expression]:
        """The parts that are asked: one that is certain and decides is asked alone."""
        for one in e.operands:
            if self.known(one) is decides:
                return [one]
        return [one for one in e.operands if self.known(one) is None]
