"""Who said what in a session, and so whether a value that a call is to be made with occurs in what somebody said."""

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property, lru_cache

import msgspec

from ostler.domain.addresses import leaves

TRUSTED = "trusted"
UNTRUSTED = "untrusted"
PRIVATE = "private"
LENGTH_MIN = 3
"""Characters below which a value occurs only where it is set apart by quotes or a sign."""

EVIDENCE_MAX = 20
EVIDENCE_CHARACTERS_MAX = 60


class Said(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A text that entered a session.

    `source` is `user`, `system`, `tool.<name>` or `memory.<name>`; `roles` are those of the tool; `labels` are
    `untrusted`, `private` and what else the text is marked with. `arguments` are those of the call that
    it answers: what a tool only repeats of them it has not said.
    """

    source: str
    text: str
    roles: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    arguments: object = None

    @property
    def is_register(self) -> bool:
        """Whether it is a list of entries, of which only whole ones count."""
        return "looks_up" in self.roles

    @property
    def is_trusted(self) -> bool:
        """Whether it was said by the user, the system, a register, or a memory that was not made of untrusted text."""
        if self.source.startswith("memory."):
            return UNTRUSTED not in self.labels
        return self.source in ("user", "system") or self.is_register


def labels_of(roles: Iterable[str]) -> frozenset[str]:
    """The labels of what a tool with these roles returns."""
    held = frozenset(roles)
    named = ((UNTRUSTED, "reads_untrusted"), (PRIVATE, "reads_private"))
    return frozenset(label for label, role in named if role in held)


def said_by_tool(name: str, roles: Iterable[str], arguments: object, text: str) -> Said:
    """What the tool `name` answered when it was called with `arguments`."""
    held, labels = _roles_and_labels(tuple(roles))
    return Said(f"tool.{name}", text, held, labels, arguments)


@lru_cache(maxsize=256)
def _roles_and_labels(roles: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(roles), labels_of(roles)


class Provenance:
    """Everything that was said, in order: immutable, with O(1) `plus`, as `ostler.domain.transcript.Transcript`.

    A value occurs in a text if it stands there whole: after Unicode normalisation (NFKC), in lower case and with any
    white space as one space, and not as a part of a longer word, number, address or path. One of fewer than three
    characters must be set apart by quotes or a sign (`'7'`, `#7`, `$50`). 98.7 also occurs as `98.70`, an IBAN with or
    without spaces, a web address with or without `https://` and a slash at its end, and a moment where both its day and
    its time occur. A register (`looks_up`) vouches only for whole entries: a key or value of JSON, else a line, or
    what stands before or after its `: `. What a tool only repeats of its arguments it does not vouch for; in untrusted
    text a value counts wherever it occurs. Takes time linear in what the sources said.
    """

    __slots__ = ("_length", "_shared", "labels")

    def __init__(self) -> None:
        self._shared: list[_Heard] = []
        self._length = 0
        self.labels: frozenset[str] = frozenset()

    def plus(self, *entries: Said) -> "Provenance":
        shared = self._shared if len(self._shared) == self._length else self._shared[: self._length]
        shared.extend(_Heard(entry) for entry in entries)
        longer = Provenance()
        longer._shared = shared
        longer._length = len(shared)
        longer.labels = self.labels
        for entry in entries:
            if not entry.labels <= longer.labels:
                longer.labels |= entry.labels
        return longer

    def __len__(self) -> int:
        return self._length

    def evidence(self, value: object) -> tuple[str, ...]:
        """Of each value within `value` who said it, in words, for those who decide about it."""
        names = list(dict.fromkeys(one.said.source for one in self._shared[: self._length]))
        found = []
        for leaf in list(dict.fromkeys(leaves(value)))[:EVIDENCE_MAX]:
            said_by = [name for name in names if self.said(leaf, (name,))]
            shown = leaf if len(leaf) <= EVIDENCE_CHARACTERS_MAX else f"{leaf[:EVIDENCE_CHARACTERS_MAX]}…"
            found.append(f"{shown!r}: {', '.join(said_by) or 'nobody said it'}")
        return tuple(found)

    def __iter__(self) -> Iterator[Said]:
        return (self._shared[index].said for index in range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Provenance) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Provenance({list(self)!r})"

    def __str__(self) -> str:
        """The sources, each once, as rules name them; not what they said."""
        return ", ".join(dict.fromkeys(said.source for said in self)) or "nobody"

    def said(self, value: object, sources: Sequence[str]) -> bool:
        """Whether `value` occurs in what one of `sources` said; of a list or mapping, every value within it.

        None, booleans and blank texts occur everywhere. A source is `user`, `system`, `trusted`, `untrusted`,
        `tool.<glob>`, `memory.<glob>` or `role.<role>`; an unknown one has said nothing.
        """
        said = self._shared[: self._length]
        by_others = [_chooser(source) for source in sources if source != UNTRUSTED]
        heard = [one for one in said if any(chooses(one.said) for chooses in by_others)]
        suspect = [one for one in said if UNTRUSTED in one.said.labels] if UNTRUSTED in sources else []
        return all(
            any(one.says(wanted) for one in heard) or any(one.contains(wanted) for one in suspect)
            for wanted in map(_Wanted, leaves(value))
        )

    def dictated(self, value: object) -> tuple[str, ...]:
        """The values within `value` that occur in untrusted text and in nothing that is trusted."""
        return tuple(
            leaf for leaf in leaves(value) if self.said(leaf, (UNTRUSTED,)) and not self.said(leaf, (TRUSTED,))
        )


class _Wanted:
    """A value to look for, in the forms in which it may have been said."""

    def __init__(self, value: str) -> None:
        text = _normal(value)
        self.text = _bare_link(text) if "." in text else text
        self.number = _number(text)
        self.account = _account(text)
        self.moment = _MOMENT.fullmatch(text)


class _Heard:
    """A text that was said, in the forms in which values are looked for; each is made when it is first asked for."""

    def __init__(self, said: Said) -> None:
        self.said = said

    def says(self, wanted: _Wanted) -> bool:
        """Whether this vouches for `wanted`: it occurs here, as a whole entry of a register, and is no mere echo."""
        if self._asked is not None and self._asked.contains(wanted):
            return False
        if self.said.is_register:
            return wanted.text in self._entries or wanted.account in self._entries
        return self.contains(wanted)

    def contains(self, wanted: _Wanted) -> bool:
        """Whether `wanted` occurs anywhere in the text."""
        if _occurs(wanted.text, self._text) or wanted.number in self._numbers or wanted.account in self._accounts:
            return True
        return wanted.moment is not None and all(_occurs(part, self._text) for part in wanted.moment.groups())

    @cached_property
    def _asked(self) -> "_Heard | None":
        asked = "\n".join(leaves(self.said.arguments))
        return _Heard(Said("asked", asked)) if asked else None

    @cached_property
    def _text(self) -> str:
        return _normal(self.said.text)

    @cached_property
    def _numbers(self) -> frozenset[Decimal]:
        found = (
            _number(match[0]) for match in _NUMBER.finditer(self._text) if _stands_alone(self._text, *match.span())
        )
        return frozenset(number for number in found if number is not None)

    @cached_property
    def _accounts(self) -> frozenset[str | None]:
        found: set[str] = set()
        for match in _SPACED_ACCOUNT.finditer(self._text):
            found.add(match[0].replace(" ", ""))
            if (match[2] or "").startswith(" "):  # the last group, or the next word
                found.add(match[1].replace(" ", ""))
        return frozenset(found)

    @cached_property
    def _entries(self) -> frozenset[str | None]:
        entries = {_bare_link(_normal(entry)) for entry in _entries_of(self.said.text)}
        accounts = {account for account in map(_account, entries) if account is not None}
        return frozenset(entries | accounts)


_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?")
_SPACED_ACCOUNT = re.compile(r"\b([a-z]{2}\d{2}(?: ?[a-z0-9]{4}){2,7})( ?[a-z0-9]{1,3})?\b")
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})[t ](\d{2}:\d{2})(?::00)?z?")
_SIGNS = frozenset("#$€£¥")
_QUOTES = frozenset("'\"`")
_JOINING = frozenset("-.@/_+=&%~?")


def _normal(text: str) -> str:
    """Lower case rather than case folding, which makes one of names that are two to the world (`straße`, `strasse`)."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()


def _bare_link(text: str) -> str:
    bare = text.removeprefix("https://").removeprefix("http://")
    return bare.rstrip("/") or bare


def _number(text: str) -> Decimal | None:
    return Decimal(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def _account(text: str) -> str | None:
    compact = text.replace(" ", "")
    return compact if _SPACED_ACCOUNT.fullmatch(compact) else None


def _occurs(value: str, text: str) -> bool:
    """Whether `value` stands in `text`. Occurrences that overlap one another are seen once, so that time is linear."""
    start = text.find(value) if value else -1
    while start >= 0:
        end = start + len(value)
        if _stands_alone(text, start, end):
            return True
        start = text.find(value, end)
    return False


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether what is there is no part of something longer, and not there by chance.

    What has no letter or digit must stand between spaces. What is short is often the number of something else, and
    must be set apart: in quotes or after a sign (`'7'`, `#7`, `$50`).
    """
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    if not any(char.isalnum() for char in text[start:end]):
        return before.strip() == "" == after.strip()
    if end - start < LENGTH_MIN and before not in _SIGNS and not (before == after and before in _QUOTES):
        return False
    return not (
        _continues(text[start], before, text[max(start - 2, 0) : max(start - 1, 0)])
        or _continues(text[end - 1], after, text[end + 1 : end + 2])
    )


def _continues(edge: str, near: str, far: str) -> bool:
    """Whether a word that has `edge` at one end goes on beyond it with the characters `near` and `far`."""
    if near.isalnum():
        return True
    if near in _JOINING:
        return near == "_" or far.isalnum() or far == "_"
    return far.isdigit() and (near == ":" or (near == "," and edge.isdigit()))


def _entries_of(text: str) -> Iterable[str]:
    """The entries of a register: every key and value of JSON, else of lines; indented ones may go on with another."""
    try:
        return _keys_and_values(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return _entries_of_lines(text)


def _keys_and_values(document: object) -> list[str]:
    found: list[str] = []
    pending = [document]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            found += one
            pending += one.values()
        elif isinstance(one, list):
            pending += one
        else:
            found += leaves(one)
    return found


def _entries_of_lines(text: str) -> list[str]:
    lines: list[list[str]] = []
    for line in text.splitlines():
        bare = line.strip()
        if lines and line[:1].isspace() and not bare.startswith(("- ", "* ")) and ": " not in bare:
            lines[-1].append(bare)
        else:
            lines.append([bare.removeprefix("- ").removeprefix("* ")])
    entries = [" ".join(parts) for parts in lines]
    return [part.strip().strip("'\"") for entry in entries for part in (entry, *entry.split(": ", 1))]


@lru_cache(maxsize=1024)
def _chooser(source: str) -> Callable[[Said], bool]:
    """Whether something said is by the source of this name."""
    if source == TRUSTED:
        return lambda said: said.is_trusted
    if source.startswith("role."):
        role = source.removeprefix("role.")
        return lambda said: role in said.roles
    return lambda said: fnmatch.fnmatchcase(said.source, source)
