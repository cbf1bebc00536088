"""How many tokens a text is, by an estimate: no vendor ships its vocabulary, and asking one costs a call.

A text is counted once, by what it is made of (`Counts`); counts add up, and each family of models makes tokens of them
by weights of its own, so that a session may change its model. The weights were fitted to the vocabularies that can be
had offline (docs/how-to/context.md has the error); what a provider reports corrects them (`Context.reported`).
"""

from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import Literal

import msgspec

from ostler.domain.model import AssistantMessage, Message, ToolMessage, UserMessage, image_tokens
from ostler.domain.tool import ToolSpec

Family = Literal["openai", "anthropic", "deepseek", "mistral", "qwen", "other"]
"""Models that share a vocabulary, or nearly so."""

Counts = tuple[int, ...]
"""What a text is made of, in the order of `KINDS`."""

KINDS = (
    "words",
    "lower",
    "upper",
    "digits",
    "marks",
    "spaces",
    "lines",
    "latin",
    "two_bytes",
    "han",
    "hangul",
    "three_bytes",
    "four_bytes",
    "numbers",
    "runs_of_marks",
    "opaque",
    "whole",
)
"""Runs of letters, and letters; digits and punctuation, and runs of both; spaces that begin no word; line breaks and
tabs; beyond ASCII, characters by their length in UTF-8. `opaque` are bytes that a provider has encrypted, and `whole`
are tokens.
"""
NOTHING: Counts = (0,) * len(KINDS)
_MILLI = 1000
_OPAQUE, _WHOLE = 200, _MILLI
_WEIGHTS: dict[Family, Counts] = {
    "openai": (489, 160, 405, 334, 203, 80, 321, 640, 340, 740, 740, 626, 5315, 961, 212, _OPAQUE, _WHOLE),
    "anthropic": (668, 125, 559, 400, 145, 57, 201, 1685, 670, 1118, 1393, 665, 7588, 622, 557, _OPAQUE, _WHOLE),
    "deepseek": (499, 157, 512, 334, 187, 79, 271, 1300, 390, 660, 830, 585, 5181, 931, 377, _OPAQUE, _WHOLE),
    "mistral": (522, 143, 487, 1000, 205, 69, 249, 662, 368, 833, 734, 639, 6248, 620, 374, _OPAQUE, _WHOLE),
    "qwen": (479, 162, 366, 1000, 175, 72, 278, 1120, 440, 700, 860, 563, 7030, 720, 270, _OPAQUE, _WHOLE),
    "other": (675, 127, 539, 1000, 165, 63, 250, 1635, 746, 1133, 1385, 660, 7916, 415, 494, _OPAQUE, _WHOLE),
}
"""Thousandths of a token. `other` was fitted to the largest count of all."""
_NAMES: tuple[tuple[str, Family], ...] = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("deepseek", "deepseek"),
    ("mistral", "mistral"),
    ("ministral", "mistral"),
    ("codestral", "mistral"),
    ("qwen", "qwen"),
    ("qwq", "qwen"),
)
MESSAGE_TOKENS, CALL_TOKENS, TOOL_TOKENS = 4, 10, 8
"""What the form of a message, a call and a tool takes beside its text."""

_LOWER, _UPPER, _DIGITS = b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"
_FOLLOWING = bytes(range(0x80, 0xC0))
_LEADING = (
    bytes(range(0xC2, 0xC6)),
    bytes(range(0xC6, 0xE0)),
    bytes(range(0xE3, 0xEA)),
    bytes(range(0xEA, 0xEE)),
    bytes((0xE0, 0xE1, 0xE2, 0xEE, 0xEF)),
    bytes(range(0xF0, 0xF8)),
)
_MARKS = bytes(byte for byte in range(33, 127) if not chr(byte).isalnum())


def _only(kept: bytes) -> bytes:
    """A table that makes `x` of these bytes and a space of all others."""
    return bytes(ord("x") if byte in kept else ord(" ") for byte in range(256))


_WORDS, _NUMBERS, _RUNS = _only(_LOWER + _UPPER), _only(_DIGITS), _only(_MARKS)


@lru_cache(maxsize=256)
def family_of(model: str) -> Family:
    """The family of a model by its name there, also within a longer name such as `anthropic/claude-…`."""
    name = model.lower().rpartition("/")[2]
    for beginning, family in _NAMES:
        if name.startswith(beginning) or f".{beginning}" in name:
            return family
    return "other"


def counts_of(text: str) -> Counts:
    """What a text is made of. About 5 µs, and 8 ns more for each character."""
    data = text.encode("utf-8", "replace")
    words = _runs(data.translate(_WORDS))
    rest, found = data, [words]
    for kind in (_LOWER, _UPPER, _DIGITS, b" ", b"\t\n\r"):
        before, rest = len(rest), rest.translate(None, kind)
        found.append(before - len(rest))
    lower, upper, digits, spaces, lines = found[1:]
    beyond = [0] * len(_LEADING)
    if not rest.isascii():
        rest = rest.translate(None, _FOLLOWING)
        for number, kind in enumerate(_LEADING):
            before, rest = len(rest), rest.translate(None, kind)
            beyond[number] = before - len(rest)
    return (
        words,
        lower,
        upper,
        digits,
        len(rest),
        max(0, spaces - words),
        lines,
        *beyond,
        _runs(data.translate(_NUMBERS)) if digits else 0,
        _runs(data.translate(_RUNS)) if rest else 0,
        0,
        0,
    )


def _runs(marked: bytes) -> int:
    """How many runs of `x` there are."""
    return marked.count(b" x") + marked.startswith(b"x")


def counts_of_message(message: Message) -> Counts:
    """What one message is made of, with its calls, its images and what was thought before it."""
    match message:
        case UserMessage():
            images = sum([image_tokens(image) for image in message.images])
            return plus(counts_of(message.text), _whole(MESSAGE_TOKENS + images))
        case AssistantMessage():
            texts = [message.text, *[f"{call.name} {call.arguments}" for call in message.calls]]
            opaque = sum([len(part.raw) for part in message.reasoning])
            form = (*NOTHING[:-2], opaque, MESSAGE_TOKENS + CALL_TOKENS * len(message.calls))
            return plus(counts_of("\n".join(texts)), form)
        case ToolMessage():
            return plus(counts_of(message.text), _whole(MESSAGE_TOKENS))


def counts_of_messages(messages: Iterable[Message]) -> Counts:
    """What all of them are made of."""
    return reduce(plus, map(counts_of_message, messages), NOTHING)


def counts_of_tools(tools: tuple[ToolSpec, ...]) -> Counts:
    """What the tools are made of, as a request describes them."""
    texts = [f"{tool.name} {tool.description} {msgspec.json.encode(tool.parameters).decode()}" for tool in tools]
    return plus(counts_of("\n".join(texts)), _whole(TOOL_TOKENS * len(tools)))


def plus(counts: Counts, more: Counts) -> Counts:
    """Both together."""
    return tuple([one + other for one, other in zip(counts, more, strict=True)])


def minus(counts: Counts, less: Counts) -> Counts:
    """What is left of them without these."""
    return tuple([one - other for one, other in zip(counts, less, strict=True)])


def tokens(counts: Counts, family: Family) -> int:
    """How many tokens these are for a family of models, rounded up."""
    total = sum([count * weight for count, weight in zip(counts, _WEIGHTS[family], strict=True)])
    return -(-total // _MILLI)


def _whole(number: int) -> Counts:
    return (*NOTHING[:-1], number)
