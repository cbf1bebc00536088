"""The unknowns of a proof: what rules may ask about a call, as terms of z3, and the call that a model describes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from typing import Any, cast, get_args

import z3  # type: ignore[import-untyped]

from ostler.app.policy.case import WEEKDAYS, Case, Saying
from ostler.app.policy.sorts import Sort
from ostler.app.policy.words import Kind as Word
from ostler.domain.constraint.kinds import KNOWN, ROLES
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.syntax import History
from ostler.domain.glob import is_within
from ostler.domain.provenance import LENGTH_MIN
from ostler.domain.tool import Effect, Role, ToolSpec

MISSING, NUMBER, TEXT, BOOLEAN, TEXTS, NUMBERS, EMPTY, OTHER = range(8)
"""What an argument may be: not there, of a type that rules know, an empty list, or else."""
_FITTING: dict[str, tuple[int, ...]] = {
    "number": (NUMBER,),
    "text": (TEXT,),
    "boolean": (BOOLEAN,),
    "texts": (TEXTS, EMPTY),
    "numbers": (NUMBERS, EMPTY),
    "scalar": (NUMBER, TEXT),
    "scalars": (TEXTS, NUMBERS, EMPTY),
    "sized": (TEXT, TEXTS, NUMBERS, EMPTY, OTHER),
    "any": (NUMBER, TEXT, BOOLEAN, TEXTS, NUMBERS, EMPTY, OTHER),
}
"""What an argument must be where a rule takes it for this; see `ostler.domain.constraint.kinds`."""
CLOSED: dict[str, tuple[str, ...]] = {
    "effect": get_args(Effect)[::-1],
    "principal.kind": ("user", "agent", "service"),
    "time.weekday": WEEKDAYS,
}
"""Facts that are one of a few words, the usual one first."""
LABELS = {"context.untrusted": "untrusted", "context.private": "private"}
"""Facts that say whether a label is there."""
BUDGETS = ("budget.tokens_left", "budget.cost_left", "budget.calls_left")
_TRUSTED = ("user", "system", "role.looks_up")
_ENDLESS = 10**24
_LENGTH_MAX = 200
"""Items of a list, beyond which nobody wants to read an example."""


class Symbols:
    """The unknowns of one sort of call, shared by all policies that are looked at together.

    `axioms` hold of every call. `pins` hold of calls whose texts are the examples of their kinds: a model that has
    them, too, describes one call exactly. Without them, some questions (of order, length, regular expressions, or what
    two texts have in common) are answered freely, so that nothing is overlooked.
    """

    def __init__(self, sort: Sort, words: Mapping[str, Sequence[Word]]) -> None:
        self.sort = sort
        self.axioms: list[Any] = []
        self.pins: list[Any] = []
        self._words = dict(words)
        self._words["tool.name"] = [Word(sort.name, sort.matched, sort.spec is not None)]
        self._words["operation"] = [Word(sort.operation, frozenset(), True)]
        for name, choices in CLOSED.items():
            self._words[name] = [Word(choice, frozenset(), True) for choice in choices]
        self._made: dict[str, Any] = {}
        self._texts: dict[str, Any] = {}
        self._members: dict[str, dict[str, Any]] = {}
        self._sources: list[tuple[str, frozenset[str], Any]] = []
        self._questions: dict[str, tuple[History, Any]] = {}
        self._asked: dict[str, set[str]] = {}
        if sort.spec is not None:
            self._declare(sort.spec)

    # ------------------------------------------------------------------------------------------- kinds of unknowns

    def boolean(self, name: str) -> Any:
        """Something that is so or is not."""
        return self._once(f"is {name}", lambda: z3.Bool(name))

    def number(
        self, name: str, *, is_whole: bool = False, at_least: int | None = None, below: int | None = None
    ) -> Any:
        """A quantity."""

        def make() -> Any:
            term = z3.ToReal(z3.Int(name)) if is_whole else z3.Real(name)
            if at_least is not None:
                self.axioms.append(term >= at_least)
            if below is not None:
                self.axioms.append(term < below)
            return term

        return self._once(f"number {name}", make)

    def budget(self, name: str) -> Any:
        """What a budget leaves. One without a limit leaves more than any number in a rule."""

        def make() -> Any:
            term = z3.ToReal(z3.Int(name))
            self.axioms.append(self.boolean(f"{name} is unlimited") == (term >= _ENDLESS))
            return term

        return self._once(f"number {name}", make)

    def fits(self, name: str, tag: Any, kind: str) -> Any:
        """Whether it is what a rule takes it for. Durations and money are texts that can be read so."""
        plain = kind.split()[0]
        if plain in ("duration", "money"):
            return z3.And(tag == TEXT, self.boolean(f"{name} is a {plain}"))
        fitting = z3.Or(*[tag == one for one in _FITTING[kind]])
        return z3.Or(fitting, z3.And(tag == OTHER, self.boolean(f"{name} is mixed"))) if kind == "scalars" else fitting

    def tag(self, name: str) -> Any:
        """What an argument or an input is."""

        def make() -> Any:
            term = z3.Int(f"tag {name}")
            self.axioms.append(z3.And(term >= MISSING, term <= OTHER))
            self.axioms.append(z3.Implies(term == EMPTY, self.length(name) == 0))
            self.pins.append(z3.Implies(term == OTHER, self.length(name) == 0))
            return term

        return self._once(f"tag {name}", make)

    def text(self, name: str) -> Any:
        """The number of a text's kind, in the order of the words that were found for it."""
        if name not in self._texts:
            term = z3.Int(f"text {name}")
            self._texts[name] = term
            self.axioms.append(z3.And(term >= 0, term < len(self.words(name))))
        return self._texts[name]

    def words(self, name: str) -> Sequence[Word]:
        """The kinds of text that this may be."""
        return self._words.setdefault(name, [Word("other", frozenset(), False)])

    def role(self, role: str) -> Any:
        """Whether the tool has a role. Nothing but tools has any."""
        if self.sort.operation != "tool":
            return z3.BoolVal(False)
        return z3.BoolVal(role in self.sort.spec.roles) if self.sort.spec is not None else self.boolean(f"role.{role}")

    # ---------------------------------------------------------------------------------------------- what they say

    def text_is(self, name: str, about: str, holds: Callable[[Word], bool | None]) -> Any:
        """Whether something holds of a text; `holds` is None where it holds of some texts of a kind only."""
        kind, words = self.text(name), self.words(name)
        answers = [holds(word) for word in words]
        if None not in answers:
            return z3.Or(*[kind == number for number, answer in enumerate(answers) if answer])
        known = self.boolean(f"{name} {about}")
        for number, answer in enumerate(answers):
            if answer is not None:
                self.axioms.append(z3.Implies(kind == number, known == z3.BoolVal(answer)))
        return known

    def pin_text(self, name: str, term: Any, holds: Callable[[str], bool]) -> None:
        """What is free of kinds of texts is settled for their examples."""
        kind = self.text(name)
        fitting = [kind == number for number, word in enumerate(self.words(name)) if holds(word.example)]
        self.pins.append(term == z3.Or(*fitting))

    def member(self, collection: str, item: str) -> Any:
        """Whether a list or set holds this item. What a list holds, it holds whatever else is asked of it."""
        members = self._members.setdefault(collection, {})
        if item not in members:
            members[item] = z3.Bool(f"{collection} has {item}")
            self.axioms.append(z3.Implies(members[item], self.length(collection) >= 1))
        return members[item]

    def others(self, collection: str) -> Any:
        """Whether a list or set holds anything that no rule names."""
        found = self.boolean(f"others in {collection}")
        self.axioms.append(z3.Implies(found, self.length(collection) >= 1))
        return found

    def length(self, collection: str) -> Any:
        """How many items there are."""
        return self.number(f"length of {collection}", is_whole=True, at_least=0)

    def items(self, collection: str) -> Mapping[str, Any]:
        """The items that rules name, and whether they are there."""
        return self._members.setdefault(collection, {})

    def said(self, value: str, sources: Sequence[str]) -> Any:
        """Whether a value occurs in what one of these sources said: never less, where there are more sources."""
        wanted = frozenset(sources)
        for known, others, term in self._sources:
            if known == value and others == wanted:
                return term
        term = z3.Bool(f"{value} FROM {', '.join(sorted(wanted))}")
        for known, others, other in self._sources:
            if known == value and _is_covered(wanted, others):
                self.axioms.append(z3.Implies(term, other))
            if known == value and _is_covered(others, wanted):
                self.axioms.append(z3.Implies(other, term))
        self._sources.append((value, wanted, term))
        self._says_nothing(value, term)
        return term

    def _says_nothing(self, value: str, term: Any) -> None:
        """What is empty, blank or a truth value, everybody has said; see `ostler.domain.provenance`."""
        is_given = value.startswith(("args.", "inputs."))
        tag = self.tag(value) if is_given else None
        if tag is not None:
            self.axioms.append(z3.Implies(z3.Or(tag == BOOLEAN, tag == EMPTY), term))
            self.pins.append(z3.Implies(tag == OTHER, term))
        if tag is not None or KNOWN.get(tuple(value.split("."))) == "texts":
            is_list = True if tag is None else z3.Or(tag == TEXTS, tag == NUMBERS)
            self.axioms.append(z3.Implies(z3.And(is_list, self.length(value) == 0), term))
        if tag is not None or KNOWN.get(tuple(value.split("."))) == "text":
            is_text = True if tag is None else tag == TEXT
            for number, word in enumerate(self.words(value)):
                if not word.example.strip():
                    fits = z3.Implies(z3.And(is_text, self.text(value) == number), term)
                    (self.axioms if word.is_single else self.pins).append(fits)

    def answer(self, question: History) -> Any:
        """The number that answers a question about the past; whether anything happened is a number above 0."""
        counted = question
        if question.asks == "HAPPENED":
            counted = History(
                asks="COUNT",
                targets=question.targets,
                within_us=question.within_us,
                bound=question.bound,
                per=question.per,
            )
        name = show_expression(counted)
        self._asked.setdefault(name, set()).add(show_expression(question))
        if name not in self._questions:
            term = self.number(name, is_whole=counted.asks != "SUM", at_least=0)
            for other, known in self._questions.values():
                if _is_longer(counted, other):
                    self.axioms.append(term >= known)
                if _is_longer(other, counted):
                    self.axioms.append(term <= known)
            self._questions[name] = (counted, term)
        return self._questions[name][1]

    # ------------------------------------------------------------------------------------------------ a known tool

    def _declare(self, spec: ToolSpec) -> None:
        """What the schema of the tool says of its arguments, as far as it is plain."""
        chosen = CLOSED["effect"].index(spec.effect)
        self.axioms.append(self.text("effect") == chosen)
        properties = spec.parameters.get("properties", {})
        required = spec.parameters.get("required", ())
        for name, schema in properties.items() if isinstance(properties, Mapping) else ():
            tag = self.tag(f"args.{name}")
            if name in required:
                self.axioms.append(tag != MISSING)
            tags = _tags_of(schema)
            if tags is not None:
                self.axioms.append(z3.Or(tag == MISSING, *[tag == one for one in tags]))
        if spec.parameters.get("additionalProperties", True) is False:
            self._only = frozenset(properties)

    _only: frozenset[str] | None = None

    def argument(self, path: Sequence[str]) -> Any:
        """What the argument at a path is. What is within another argument needs a table there."""
        name = ".".join(path)
        is_new = f"tag {name}" not in self._made
        tag = self.tag(name)
        if is_new and len(path) > 2:
            above = self.argument(path[:-1])
            self.axioms.append(z3.Implies(tag != MISSING, z3.Or(above == OTHER, above == TEXTS, above == NUMBERS)))
        elif is_new and self._only is not None and path[1] not in self._only:
            self.axioms.append(tag == MISSING)
        return tag

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def wishes(self) -> list[Any]:
        """What makes a call plain: nothing is there that need not be, and most numbers are 0."""
        absent = [term == MISSING for key, term in self._made.items() if key.startswith("tag ")]
        nobody = [z3.Not(term) for _, _, term in self._sources]
        holding = [z3.Not(term) for members in self._members.values() for term in members.values()]
        untrue = [z3.Not(term) for key, term in self._made.items() if key.startswith("is ")]
        numbers = [term for key, term in self._made.items() if key.startswith("number ")]
        usual = [term == 0 for name, term in self._texts.items() if name in CLOSED]
        absent += [z3.Or(term == MISSING, term == TEXT) for key, term in self._made.items() if key.startswith("tag ")]
        return [*absent, *usual, *holding, *untrue, *[number == 0 for number in numbers], *nobody]

    def used_collections(self) -> set[str]:
        """The lists and sets of which anything is asked: what they hold is never left to follow from the arguments."""
        lengths = {key.removeprefix("number length of ") for key in self._made if key.startswith("number length of ")}
        return lengths | self._members.keys() | {value for value, _, _ in self._sources}

    # ------------------------------------------------------------------------------------------------- a model read

    def case(self, model: Any, inputs: Iterable[str]) -> Case:
        """The call that a model describes, with what it leaves open as in a session that has just begun."""
        read = _Reading(self, model)
        args: dict[str, Any] = {}
        tags = {key.removeprefix("tag "): None for key in self._made if key.startswith("tag args.")}
        for name in sorted(tags, key=lambda name: name.count(".")):
            read.put(args, name.split(".")[1:], name)
        return Case(
            operation=self.sort.operation,
            tool=self.sort.name,
            roles=tuple(role for role in ROLES if read.is_true(self.role(role))),
            effect=cast(Effect, read.text("effect")) if "effect" in self._texts else "once",
            args=args,
            facts=read.facts(),
            inputs={name: read.value(f"inputs.{name}") for name in inputs if read.tag(f"inputs.{name}") != MISSING},
            said=read.said(self._sources),
            history=read.history(self._questions),
        )


class _Reading:
    """What the unknowns are in one model."""

    def __init__(self, symbols: Symbols, model: Any) -> None:
        self._symbols = symbols
        self._model = model

    def is_true(self, term: Any) -> bool:
        return bool(z3.is_true(self._model.eval(term, model_completion=True)))

    def tag(self, name: str) -> int:
        key = f"tag {name}"
        if key not in self._symbols._made:
            return MISSING
        return int(self._model.eval(self._symbols._made[key], model_completion=True).as_long())

    def number(self, name: str) -> float:
        term = self._symbols._made.get(f"number {name}")
        if term is None:
            return 0
        found = self._model.eval(term, model_completion=True)
        if not z3.is_rational_value(found):
            found = found.approx(20)
        exact = Fraction(found.numerator_as_long(), found.denominator_as_long())
        return int(exact) if exact.denominator == 1 else float(exact)

    def text(self, name: str) -> str:
        number: int = self._model.eval(self._symbols.text(name), model_completion=True).as_long()
        word = self._symbols.words(name)[number]
        return word.example

    def collection(self, name: str) -> list[str]:
        found = [item for item, term in self._symbols.items(name).items() if self.is_true(term)]
        if f"is others in {name}" in self._symbols._made and self.is_true(self._symbols.others(name)):
            found.append("other")
        wanted = min(int(self.number(f"length of {name}")), _LENGTH_MAX)
        return found + [f"other{number}" for number in range(wanted - len(found))]

    def value(self, name: str) -> Any:
        match self.tag(name):
            case 1:
                return self.number(name)
            case 2:
                return self.text_or_quantity(name)
            case 3:
                return self.is_true(self._symbols.boolean(name))
            case 4:
                return self.collection(name)
            case 5:
                return [number for number, _ in enumerate(self.collection(name))]
            case 6:
                return []
            case _:
                return {}

    def text_or_quantity(self, name: str) -> str:
        if f"number {name} as duration" in self._symbols._made:
            return f"{int(self.number(f'{name} as duration'))}us"
        if f"number {name} as money" in self._symbols._made:
            return f"USD {self.number(f'{name} as money') / 1_000_000:.6f}"
        return self.text(name)

    def put(self, args: dict[str, Any], path: Sequence[str], name: str) -> None:
        if self.tag(name) == MISSING:
            return
        table = args
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table.setdefault(path[-1], self.value(name))

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path, kind in KNOWN.items():
            name = ".".join(path)
            if name in ("operation", "tool.name", "effect", "risk_score", *LABELS):
                continue
            if kind == "texts":
                held = sorted(self.collection(name))
                found |= {name: held} if held or name in self._symbols.used_collections() else {}
            elif name in self._symbols._texts:
                found[name] = self.text(name)
            elif f"number {name}" in self._symbols._made and not self._is_unlimited(name):
                found[name] = _written(kind, self.number(name))
        if "time.date" in found and "time.weekday" not in found and not _is_day(found["time.date"]):
            del found["time.date"]
        return found

    def _is_unlimited(self, name: str) -> bool:
        return name in BUDGETS and self.is_true(self._symbols.boolean(f"{name} is unlimited"))

    def said(self, sources: Sequence[tuple[str, frozenset[str], Any]]) -> tuple[Saying, ...]:
        """For every value that was said, by a source that is no source of what was not."""
        found: list[Saying] = []
        for value, wanted, term in sources:
            if not self.is_true(term):
                continue
            refuted = frozenset().union(
                *(others for known, others, other in sources if known == value and not self.is_true(other))
            )
            speaker = next((one for one in sorted(wanted) if not _is_covered({one}, refuted)), min(wanted))
            found += [_saying(speaker, _set_apart(text)) for text in self._texts_of(value)]
        return tuple(dict.fromkeys(found))

    def _texts_of(self, value: str) -> list[str]:
        if value.startswith("args."):
            read = self.value(value)
        elif value in self._symbols._texts:
            read = self.text(value)
        else:
            read = self.collection(value)
        return [str(one) for one in (read if isinstance(read, list) else [read])]

    def history(self, questions: Mapping[str, tuple[History, Any]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (question, _) in questions.items():
            number = self.number(name)
            for asked in sorted(self._symbols._asked[name]) if number else ():
                found[asked] = number if question.asks in ("COUNT", "SUM") else 1
        return found


def _set_apart(text: str) -> str:
    """A text as it must be written to be recognised: what is short, in quotes; see `ostler.domain.provenance`."""
    return f"'{text}'" if len(text) < LENGTH_MIN and any(char.isalnum() for char in text) else text


def _saying(source: str, text: str) -> Saying:
    """Something said by what a rule calls a source."""
    if source.startswith("role."):
        return Saying(source="tool.any", text=text, roles=(cast(Role, source.removeprefix("role.")),))
    if source == "untrusted":
        return Saying(source="tool.any", text=text, labels=("untrusted",))
    return Saying(source="system" if source == "trusted" else source.replace("*", "any"), text=text)


def _written(kind: str, number: float) -> Any:
    if kind == "duration":
        return f"{int(number)}us"
    if kind.startswith("money"):
        return f"USD {number / 1_000_000:.6f}"
    return int(number)


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _tags_of(schema: Any) -> set[int] | None:
    """What a schema lets an argument be; None if it is not plain."""
    if not isinstance(schema, Mapping):
        return None
    named = schema.get("type")
    known = {"number": NUMBER, "integer": NUMBER, "string": TEXT, "boolean": BOOLEAN, "object": OTHER, "null": OTHER}
    if isinstance(named, str) and named in known:
        return {known[named]}
    return {TEXTS, NUMBERS, EMPTY, OTHER} if named == "array" else None


def _is_covered(narrow: Iterable[str], wide: Iterable[str]) -> bool:
    """Whether whatever one of the narrow sources said, one of the wide ones said as well."""
    return all(any(_is_source_within(one, other) for other in wide) for one in narrow)


def _is_source_within(one: str, other: str) -> bool:
    return one == other or is_within(one, other) or (other == "trusted" and one in _TRUSTED)


def _is_longer(one: History, other: History) -> bool:
    """Whether all that `other` counts, `one` counts as well: for then its answer is no smaller."""
    is_alike = (one.asks, one.targets, one.per, one.bound) == (other.asks, other.targets, other.per, other.bound)
    return is_alike and one.argument == other.argument and one.bound is None and one.within_us >= other.within_us
