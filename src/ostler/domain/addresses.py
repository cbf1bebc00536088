"""What in the arguments of a call says where it goes: its destinations, and every address that is written in it."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from ostler.domain.tool import ToolSpec

_BETWEEN_WORDS = re.compile(r"[\s<>()\[\]{}\"'`,;|]+")
_END_OF_SENTENCE = ".:!?"
_MAIL = re.compile(r"(?:mailto:)?([^@\s:/]+@[^@\s:/]+\.[^@\s:/.]{2,})", re.IGNORECASE)
_WEB = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://\S+|www\.\S+|(?:[\w-]+\.)+([^\W\d_]{2,24})(?::\d+)?(?:[/?#]\S*)?)", re.IGNORECASE
)
_ACCOUNT = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", re.IGNORECASE)
_SPACED_ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b", re.IGNORECASE)

FILE_ENDINGS = frozenset({
    "c", "cfg", "cpp", "css", "csv", "doc", "docx", "gif", "go", "gz", "h", "htm", "html", "ini", "java", "jpeg",
    "jpg", "js", "json", "log", "md", "odt", "ods", "pdf", "png", "ppt", "pptx", "py", "rs", "rst", "rules", "sh",
    "sql", "svg", "tar", "toml", "ts", "tsv", "txt", "xls", "xlsx", "xml", "yaml", "yml", "zip",
})  # fmt: skip
"""What `name.ending` ends in where it is rather a file than the name of a host."""


def destinations_of(spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of the arguments that say where a call goes or what it acts upon, each as text.

    Those are the arguments that the tool declares as `destinations`; of a tool that declares none, all: what is not
    known to be harmless must be accounted for.
    """
    return tuple(leaves([arguments.get(name) for name in spec.destinations or arguments]))


def contents_of(spec: ToolSpec, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of all arguments that are no destinations, each as text."""
    return tuple(
        leaves([value for name, value in arguments.items() if spec.destinations and name not in spec.destinations])
    )


def addresses_in(arguments: object) -> tuple[str, ...]:
    """Every web, mail and account address (IBAN) that is written anywhere in the arguments."""
    return tuple(address for text in leaves(arguments) for address in _addresses(text))


def links_in(arguments: object) -> tuple[str, ...]:
    """Every web address that is written anywhere in the arguments: with a scheme, or `host.example/…` without one."""
    return tuple(word for text in leaves(arguments) for word in _words(text) if _is_web(word))


def leaves(value: object) -> Iterator[str]:
    """The texts and numbers within a value, as text; None, booleans and blank texts say nothing of where it goes."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            pending += reversed(list(one.values()))
        elif isinstance(one, list | tuple | set | frozenset):
            pending += reversed(list(one))
        elif isinstance(one, str):
            if one.strip():
                yield one
        elif one is not None and not isinstance(one, bool):
            yield str(one)


def _addresses(text: str) -> Iterator[str]:
    for word in _words(text):
        if mail := _MAIL.fullmatch(word):
            yield mail[1]
        elif _is_web(word) or _ACCOUNT.fullmatch(word):
            yield word
    yield from (match[0] for match in _SPACED_ACCOUNT.finditer(text))


def _words(text: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFKC", text)
    return (word.rstrip(_END_OF_SENTENCE) for word in _BETWEEN_WORDS.split(plain) if word)


def _is_web(word: str) -> bool:
    match = _WEB.fullmatch(word)
    return match is not None and (match[1] or "").lower() not in FILE_ENDINGS
