"""The error tree: every error has a stable code, says what, and knows whether trying again makes sense."""

import re
from collections.abc import Iterator

import pytest

from ostler.kernel import errors
from ostler.kernel.errors import DefinitionInvalid, OstlerError, ProviderError, RateLimited, UnknownEvent


def tree(kind: type[OstlerError]) -> Iterator[type[OstlerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


ALL = [kind for kind in tree(OstlerError) if kind.__module__ == errors.__name__]


def test_codes_are_stable_words_and_no_two_errors_share_one() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z][a-z_]+", code) for code in codes)


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^ {4}((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE):
        del path[len(branch) // 4 :]
        drawn[name] = path[-1] if path else ""
        path.append(name)
    assert drawn == {kind.__name__: "" if kind is OstlerError else kind.__bases__[0].__name__ for kind in ALL}


TOLD_BY_ITS_FACTS = (DefinitionInvalid, UnknownEvent)
"""Errors, and those below them, whose message is made of what they are given."""


@pytest.mark.parametrize("kind", [kind for kind in ALL if not issubclass(kind, TOLD_BY_ITS_FACTS)])
def test_an_error_without_words_says_what_its_docstring_says(kind: type[OstlerError]) -> None:
    error = kind()
    assert error.message == str(error) == (kind.__doc__ or "").splitlines()[0]
    assert error.message.endswith(".")
    assert error.as_dict()["code"] == kind.code
    assert error.as_dict()["retryable"] is kind.retryable


def test_the_public_form_of_an_error_has_what_and_what_to_do_and_the_facts() -> None:
    assert OstlerError("It broke.", hint="Mend it.", part="wheel").as_dict() == {
        "code": "error",
        "message": "It broke.",
        "hint": "Mend it.",
        "retryable": False,
        "facts": {"part": "wheel"},
    }


def test_a_providers_error_keeps_its_status_and_what_it_asks_for() -> None:
    error = RateLimited("slow down", status=429, retry_after_s=1.5)
    assert isinstance(error, ProviderError)
    assert (error.status, error.retry_after_s, error.retryable) == (429, 1.5, True)
    assert error.facts == {"status": 429, "retry_after_s": 1.5}


def test_an_invalid_definition_names_every_problem() -> None:
    error = DefinitionInvalid("coder.toml", [("", "is empty"), ("limits.steps", "must be positive")])
    assert str(error) == "coder.toml has 2 problems:\n  (top level): is empty\n  limits.steps: must be positive"
    assert DefinitionInvalid("coder.toml", [("name", "is missing")]).message.startswith("coder.toml has 1 problem:")
    assert error.hint
