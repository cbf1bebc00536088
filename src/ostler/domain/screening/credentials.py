"""Detectors of secrets: by the form that their makers gave them, and by the names that stand before them.

The forms are those that the vendors document, or that their tokens have had for years. Every search begins at a fixed
text, such as `AKIA`, and takes a bounded number of characters from there, so that time is linear whatever the text.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

from ostler.domain.screening.finding import Detector, Spans

KEY_CHARACTERS_MIN = 4
"""What has less between its first and its last line is no key, but speaks of them."""


def _form(kind: str, anchors: tuple[str, ...], pattern: str) -> tuple[str, Detector]:
    """A detector of `pattern`, which begins with one of the anchors and is not part of a longer word."""
    compiled = re.compile(rf"(?<![A-Za-z0-9_])(?:{pattern})(?![A-Za-z0-9_])")

    def find(text: str) -> Spans:
        if not any(anchor in text for anchor in anchors):
            return ()
        return ((*match.span(), kind) for match in _at(text, anchors, compiled))

    return kind, find


def _at(text: str, anchors: tuple[str, ...], pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The matches of a pattern that begin at an anchor."""
    for anchor in anchors:
        at = text.find(anchor)
        while at >= 0:
            match = pattern.match(text, at)
            if match is not None:
                yield match
            at = text.find(anchor, match.end() if match else at + len(anchor))


def _private_keys(text: str) -> Spans:
    """PEM (RFC 7468) and PGP. One without an end, as in output that was cut off, reaches as far as its lines do."""
    at = text.find("-----BEGIN ")
    while at >= 0:
        begin = _BEGIN.match(text, at)
        body = _BODY.match(text, begin.end()) if begin else None
        if body is not None and len(body[0].strip("\\rn\"', ")) >= KEY_CHARACTERS_MIN:
            end = _END.match(text, body.end())
            yield at, end.end() if end else body.end(), "secret.private_key"
        at = text.find("-----BEGIN ", body.end() if body else at + 1)


_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"""(?:[A-Za-z0-9+/=:,.()\s\\"']|-(?!----)){0,65536}+""")


def _in_urls(text: str) -> Spans:
    """`scheme://user:password@host`: the password."""
    for match in _at(text, ("://",), _USER_AND_PASSWORD):
        if not _STANDS_FOR_SOMETHING.match(match[1]):
            yield *match.span(1), "secret.url"


_USER_AND_PASSWORD = re.compile(r"://[^\s/?#:@\"'<>]{0,255}+:([^\s/?#@\"'<>]{1,255}+)@")


def _authorization(text: str) -> Spans:
    """What follows `Bearer` or `Basic` (RFC 6750, RFC 7617)."""
    for match in _at(text, ("earer ", "EARER ", "asic ", "ASIC "), _SCHEME):
        given = match[1]
        if any(char.isdigit() for char in given) and _entropy_bits(given) >= 3.0:
            yield *match.span(1), "secret.authorization"


_SCHEME = re.compile(r"(?i:earer|asic) {1,4}([A-Za-z0-9._~+/-]{16,4096}+={0,2})")


def _assignments(text: str) -> Spans:
    """`password = …`, `"api_key": "…"`, `SECRET_TOKEN=…`: the value, if it looks like a secret and not like code."""
    lowered = text.replace("\u0130", "i").lower()  # the only character that is longer in lower case
    for match in _at_names(lowered, text):
        value = match["quoted"] or match["bare"]
        if value and _looks_secret(value, is_password=match["weak"] is None):
            yield *match.span("quoted" if match["quoted"] else "bare"), "secret.assignment"


def _at_names(lowered: str, text: str) -> Iterator[re.Match[str]]:
    for name in ("passw", "passphrase", "pwd", "secret", "token", "key", "credential"):
        at = lowered.find(name)
        while at >= 0:
            match = _ASSIGNMENT.match(text, at)
            if match is not None:
                yield match
            at = lowered.find(name, match.end() if match else at + len(name))


_ASSIGNMENT = re.compile(
    r"""
    (?: passw(?:or[dt]|d) | passphrase | pwd
      | (?P<weak> (?<!next)(?<!next[_-])(?<!page)(?<!page[_-])(?<!sync)(?<!sync[_-])token
        | secret | credentials?
        | (?:(?<=api)|(?<=api[_-])|(?<=access)|(?<=access[_-])|(?<=private)|(?<=private[_-])|(?<=account)
            |(?<=account[_-])|(?<=signing[_-])|(?<=encryption[_-])|(?<=auth[_-])|(?<=secret)|(?<=secret[_-])|(?<=master[_-]))key
        )
    )
    (?! [\w-]{0,16}(?:[_-]?id|name|arn|path|file|url|uri|type|version|ref|count|limit|field|expir\w{1,5})\b )
    s?(?:[_-][\w-]{0,24}+ | (?-i:[A-Z])\w{0,24}+ | [0-9]{0,3}+) ["'\]]{0,2} [ \t]{0,4} (?:=>|:=|=|:) [ \t]{0,4}
    (?: ["'`](?P<quoted>[^"'`\s]{6,512}+)["'`]
      | (?P<bare>(?:[^\s"'`,;<>()\[\]{}|&]|&(?![\w.-]{1,32}=)){6,512}+)(?![(\[])
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_STANDS_FOR_SOMETHING = re.compile(
    r"""[*xX.•#_-]+$ | < | \$(?:[{(]|[A-Za-z_]+$) | \{ | %[\w({] | \[ | (?:https?|file|arn|projects)[:/]
    | [a-z]{1,12}(?:_(?:[a-z]{1,12}|[0-9]{1,4}))+$ | [./~]*/ | [A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+[.]?$ | [A-Za-z_]*$
    | (?i:your|my|the|some|insert|enter|change|example|dummy|fake|sample|placeholder)[_-]
    """,
    re.VERBOSE,
)


def _looks_secret(value: str, *, is_password: bool) -> bool:
    if _STANDS_FOR_SOMETHING.match(value) or not any(char.isalpha() for char in value):
        return False
    has_digit = any(char.isdigit() for char in value)
    if is_password:
        return has_digit or not value.replace("_", "").replace("-", "").replace(".", "").replace("/", "").isalpha()
    return len(value) >= 16 and has_digit and _entropy_bits(value) >= 3.0


def _entropy_bits(text: str) -> float:
    """Shannon's entropy of the characters, in bits a character: some 2.5 to 3.5 for words, 3.5 to 6 for keys."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


SECRETS: dict[str, Detector] = {
    **dict(
        (
            _form("secret.anthropic", ("sk-ant-",), r"sk-ant-[a-z0-9]{2,16}-[A-Za-z0-9_-]{20,255}+"),
            _form("secret.aws", ("AKIA", "ASIA"), r"A[KS]IA[A-Z2-7]{16}"),
            _form(
                "secret.github",
                ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
                r"gh[pousr]_[A-Za-z0-9]{36,255}+|github_pat_[A-Za-z0-9_]{22,255}+",
            ),
            _form(
                "secret.gitlab", ("gl",), r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt|ffct|oas)-[A-Za-z0-9_.-]{20,255}+"
            ),
            _form(
                "secret.google",
                ("AIza", "ya29.", "GOCSPX-"),
                r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,1024}+|GOCSPX-[A-Za-z0-9_-]{28}",
            ),
            _form("secret.huggingface", ("hf_",), r"hf_[A-Za-z0-9]{34}"),
            _form(
                "secret.jwt", ("eyJ",), r"eyJ[A-Za-z0-9_-]{8,8192}+\.eyJ[A-Za-z0-9_-]{4,16384}+\.[A-Za-z0-9_-]{0,4096}+"
            ),
            _form("secret.npm", ("npm_",), r"npm_[A-Za-z0-9]{36}"),
            _form(
                "secret.openai",
                ("sk-",),
                r"sk-(?:proj|svcacct|admin|None|service)-[A-Za-z0-9_-]{20,255}+|sk-[A-Za-z0-9]{40,64}+",
            ),
            _form("secret.pypi", ("pypi-",), r"pypi-AgE[A-Za-z0-9_-]{50,512}+"),
            _form("secret.sendgrid", ("SG.",), r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
            _form(
                "secret.slack",
                ("xox", "xapp-", "https://hooks.slack.com/"),
                r"xox[abeoprs]-[A-Za-z0-9-]{10,255}+|xapp-[0-9]-[A-Za-z0-9-]{10,255}+"
                r"|https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{20,128}+",
            ),
            _form(
                "secret.stripe",
                ("sk_", "rk_", "whsec_"),
                r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}+|whsec_[A-Za-z0-9+/]{24,128}+={0,2}",
            ),
        )
    ),
    "secret.assignment": _assignments,
    "secret.authorization": _authorization,
    "secret.private_key": _private_keys,
    "secret.url": _in_urls,
}
"""By name. Each finds things of the kind that it is called by."""
