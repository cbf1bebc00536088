"""What the rules about one kind of call need to know of a call, in the order in which it is found out."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.history import Question, question_of
from ostler.domain.constraint.kinds import KNOWN, Kind, Path, input_kind
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.syntax import (
    And,
    Arithmetic,
    Call,
    Expression,
    From,
    History,
    Input,
    ListOf,
    Name,
    Negative,
    Not,
    Or,
    SetOf,
    parts_of,
)
from ostler.domain.constraint.values import MISSING, Collection, Fault, argument_at, fact_at, typed

Origin = Literal["args", "input", "fact", "history", "sources", "calculated", "risk"]
Key = tuple[Any, ...]
RISK: Key = ("risk",)
SOURCES: Key = ("sources",)
_RISK_SCORE = ("risk_score",)


class Slot:
    """One value that conditions use, by the name of the variable that holds it.

    `is_optional` says that only conditions use it that have asked whether the argument is there; otherwise a call
    without it is refused. `read` gives the value as rules compare it, or raises `Fault`; what is calculated (from
    `expression`, with arguments of these `kinds`) and the risk score are made from other slots instead.
    """

    __slots__ = ("expression", "is_optional", "kind", "kinds", "origin", "path", "read", "rule", "shown", "variable")

    def __init__(
        self, variable: str, shown: str, origin: Origin, path: Path, kind: Kind, *, is_optional: bool, rule: str
    ) -> None:
        self.variable = variable
        self.shown = shown
        self.origin = origin
        self.path = path
        self.kind = kind
        self.is_optional = is_optional
        self.rule = rule
        self.read: Callable[[Facts], Any] = _nothing
        self.expression: Expression | None = None
        self.kinds: Mapping[Path, Kind] = {}


class Asker(NamedTuple):
    """The rule that needs a value, and the types that its arguments have in it."""

    rule: str
    kinds: Mapping[Path, Kind]


class Slots:
    """The slots of one program. `need` walks a condition from the left, as it is evaluated."""

    def __init__(self, inputs: Mapping[str, Input], questions: Mapping[Question, int]) -> None:
        self.all: dict[Key, Slot] = {}
        self._inputs = inputs
        self._questions = questions
        self._on_risk: Callable[[], None] = lambda: None

    def when_risk_is_needed(self, register: Callable[[], None]) -> None:
        """`register` is called once, before the slot of the risk score is made, to ask for what that needs."""
        self._on_risk = register

    def need(self, expression: Expression, asker: Asker, present: frozenset[Path] = frozenset()) -> None:
        """Everything that an expression uses, where the arguments at `present` are known to be there."""
        match expression:
            case And() | Or():
                for operand in expression.operands:
                    self.need(operand, asker, present)
                    present |= _present(operand, holds=isinstance(expression, And))
            case Arithmetic() | Negative():
                self._calculated(expression, asker, present)
            case Name():
                self._named(expression, asker, present)
            case From():
                self.need(expression.value, Asker(asker.rule, said_kinds(expression, asker.kinds)), present)
                self._add(SOURCES, asker, "FROM", "sources", (), "any")
            case History():
                index = self._questions[question_of(expression)]
                self._add(("history", index), asker, show_expression(expression), "history", (str(index),), "number")
            case Call(function="EXISTS", argument=Name(path=path)):
                slot = self._add(("args", path, "any"), asker, ".".join(path), "args", path, "any", is_optional=True)
                slot.read = _argument(path, "any", slot)
            case _:
                for part in parts_of(expression):
                    self.need(part, asker, present)

    def key_of(self, expression: Expression, kinds: Mapping[Path, Kind]) -> Key:
        """By what the slot of a name, a calculation or a question is found."""
        match expression:
            case Name(path=path) if path[0] == "args":
                return ("args", path, kinds.get(path, "any"))
            case Name(path=path) if path == _RISK_SCORE:
                return RISK
            case Name(path=path) if path in KNOWN:
                return ("fact", path)
            case Name(path=path):
                return ("input", path)
            case History():
                return ("history", self._questions[question_of(expression)])
            case _:
                used = sorted((path, kinds.get(path, "any")) for path in _arguments(expression))
                return ("calculated", expression, tuple(used))

    def of(self, expression: Expression, kinds: Mapping[Path, Kind]) -> Slot:
        """The slot of a name, a calculation or a question that was needed."""
        return self.all[self.key_of(expression, kinds)]

    def _named(self, name: Name, asker: Asker, present: frozenset[Path]) -> None:
        path, key = name.path, self.key_of(name, asker.kinds)
        shown = ".".join(path)
        if key == RISK:
            if RISK not in self.all:
                self._on_risk()
            self._add(RISK, asker, shown, "risk", path, "number")
        elif key[0] == "args":
            kind = key[2]
            slot = self._add(key, asker, shown, "args", path, kind, is_optional=path in present)
            slot.read = _argument(path, kind, slot)
        elif key[0] == "fact":
            self._add(key, asker, shown, "fact", path, KNOWN[path]).read = lambda facts: fact_at(facts, path)
        else:
            declared = self._inputs[path[0]]
            slot = self._add(key, asker, shown, "input", path, input_kind(declared))
            slot.read = _input(declared)

    def _calculated(self, expression: Arithmetic | Negative, asker: Asker, present: frozenset[Path]) -> None:
        for part in parts_of(expression):
            self._inner(part, asker, present)
        key = self.key_of(expression, asker.kinds)
        is_optional = not present.isdisjoint(_arguments(expression))
        slot = self._add(key, asker, show_expression(expression), "calculated", (), "number", is_optional=is_optional)
        slot.expression, slot.kinds = expression, asker.kinds

    def _inner(self, expression: Expression, asker: Asker, present: frozenset[Path]) -> None:
        """The parts of a calculation are no slots of their own unless they are facts."""
        if isinstance(expression, Arithmetic | Negative):
            for part in parts_of(expression):
                self._inner(part, asker, present)
        else:
            self.need(expression, asker, present)

    def _add(
        self, key: Key, asker: Asker, shown: str, origin: Origin, path: Path, kind: Kind, *, is_optional: bool = False
    ) -> Slot:
        slot = self.all.get(key)
        if slot is None:
            variable = f"v{len(self.all)}"
            slot = Slot(variable, shown, origin, path, kind, is_optional=is_optional, rule=asker.rule)
            self.all[key] = slot
            if origin == "history":
                slot.read = _answer(int(path[0]), shown)
            if origin == "sources":
                slot.read = _sources
        elif slot.is_optional and not is_optional:
            slot.is_optional, slot.rule = False, asker.rule
        return slot


def said_kinds(expression: From, kinds: Mapping[Path, Kind]) -> Mapping[Path, Kind]:
    """Who said an argument is asked of it as it was written, whatever else it is compared as."""
    return {} if isinstance(expression.value, Name) else kinds


def given_input(declared: Input) -> Any:
    """The default of an input as rules compare it; `MISSING` if it has none."""
    default = declared.default
    if default is None:
        return MISSING
    if isinstance(default, ListOf | SetOf):
        return Collection(tuple(item.value for item in default.items if hasattr(item, "value")))
    return default.value if hasattr(default, "value") else default.us if hasattr(default, "us") else default.micro


def input_value(declared: Input, value: Any) -> Any:
    """A given value of an input as rules compare it. Raises `Fault`."""
    kind = input_kind(declared)
    read = typed(value, kind, declared.name)
    return Collection(read) if kind in ("texts", "numbers") else read


def _input(declared: Input) -> Callable[[Facts], Any]:
    default = given_input(declared)

    def read(facts: Facts) -> Any:
        if declared.name in facts.inputs:
            return input_value(declared, facts.inputs[declared.name])
        if default is MISSING:
            raise Fault("missing_input", declared.name, "the input was not given, and has no default")
        return default

    return read


def _argument(path: Path, kind: Kind, slot: Slot) -> Callable[[Facts], Any]:
    shown, below = ".".join(path), path[1:]

    def read(facts: Facts) -> Any:
        try:
            value = argument_at(facts.args, below, shown)
        except Fault:
            if slot.is_optional:
                return MISSING
            raise
        return typed(value, kind, shown)

    return read


def _answer(index: int, shown: str) -> Callable[[Facts], Any]:
    def read(facts: Facts) -> Any:
        if index >= len(facts.history):
            raise Fault("missing_history", shown, "the question was not answered")
        return typed(facts.history[index], "number", shown)

    return read


def _sources(facts: Facts) -> Any:
    if facts.sources is None:
        raise Fault("missing_sources", "FROM", "it is not known who said what")
    return facts.sources


def _nothing(facts: Facts) -> Any:
    raise AssertionError("this value is made from others")


def _present(condition: Expression, *, holds: bool) -> frozenset[Path]:
    """The arguments that are certainly there if a condition holds, or if it does not."""
    match condition:
        case Call(function="EXISTS", argument=Name(path=path)) if holds:
            return frozenset((path, *(path[:end] for end in range(2, len(path)))))
        case Not():
            return _present(condition.operand, holds=not holds)
        case And() if holds:
            return frozenset().union(*(_present(each, holds=True) for each in condition.operands))
        case Or() if not holds:
            return frozenset().union(*(_present(each, holds=False) for each in condition.operands))
        case _:
            return frozenset()


def present_after(expression: Expression) -> frozenset[Path]:
    """The arguments that an expression asks for anywhere: what it uses of them may be missing."""
    found = _present(expression, holds=True) | _present(expression, holds=False)
    return found.union(*(present_after(part) for part in parts_of(expression)))


def _arguments(expression: Expression) -> set[Path]:
    """The paths of the arguments that an expression uses, but for those that it only asks for."""
    if isinstance(expression, Name):
        return {expression.path} if expression.path[0] == "args" else set()
    if isinstance(expression, Call) and expression.function == "EXISTS":
        return set()
    return {path for part in parts_of(expression) for path in _arguments(part)}


def is_optional_in(expression: Expression, slots: Slots, kinds: Mapping[Path, Kind]) -> bool:
    """Whether an expression uses an argument that may be missing, or asks whether it is."""
    if isinstance(expression, Call) and expression.function == "EXISTS":
        return True
    if isinstance(expression, From):
        kinds = said_kinds(expression, kinds)
    if isinstance(expression, Name) and expression.path[0] == "args":
        return slots.of(expression, kinds).is_optional
    return any(is_optional_in(part, slots, kinds) for part in parts_of(expression))
