"""What each detector finds, and what only looks like it."""

import base64
from itertools import repeat

import pytest

from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.screening.redaction import find
from ostler.kernel.errors import DefinitionInvalid

ALL = ("pii.*", "secret.*")

# Put together from halves, so that no scanner of repositories takes an example for the real thing.
FOUND = [
    ("pii.email", "write to «alice@example.com».", "alice@example.com"),
    ("pii.email", "Bob <bob.o'neil+news@mail.example.co.uk>,", "bob.o'neil+news@mail.example.co.uk"),
    ("pii.email", "jörg@müller.example", "jörg@müller.example"),
    ("pii.email", "mailto:a@b.io?subject=x", "a@b.io"),
    ("pii.iban", "IBAN: DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
    ("pii.iban", "GB29NWBK60161331926819", "GB29NWBK60161331926819"),
    ("pii.iban", "fr14 2004 1010 0505 0001 3m02 606", "fr14 2004 1010 0505 0001 3m02 606"),
    ("pii.iban", "NO93-8601-1117-947", "NO93-8601-1117-947"),
    ("pii.card", "visa 4111 1111 1111 1111 12/29", "4111 1111 1111 1111"),
    ("pii.card", "5555-5555-5555-4444", "5555-5555-5555-4444"),
    ("pii.card", "amex 378282246310005.", "378282246310005"),
    ("pii.card", "3782 822463 10005", "3782 822463 10005"),
    ("pii.card", "6011111111111117", "6011111111111117"),
    ("pii.card", "diners 30569309025904", "30569309025904"),
    ("pii.card", "2223003122003222", "2223003122003222"),
    ("pii.card", "3530111333300000", "3530111333300000"),
    ("pii.phone", "call +49 151 23456789 now", "+49 151 23456789"),
    ("pii.phone", "+1 (415) 555-2671", "+1 (415) 555-2671"),
    ("pii.phone", "tel:+442079460958", "+442079460958"),
    ("pii.phone", "0049 30 1234567", "0049 30 1234567"),
    ("pii.phone", "415-555-2671", "415-555-2671"),
    ("pii.phone", "(415) 555-2671", "415) 555-2671"),
    ("pii.phone", "030 12345678", "030 12345678"),
    ("pii.phone", "020 7946 0958", "020 7946 0958"),
    ("pii.phone", "01 23 45 67 89", "01 23 45 67 89"),
    ("pii.ip", "from 203.0.113.9, port 80", "203.0.113.9"),
    ("pii.ip", "http://10.1.2.3:8080/", "10.1.2.3"),
    ("pii.ip", "[2001:db8::ff00:42:8329]", "2001:db8::ff00:42:8329"),
    ("pii.ssn", "is 123-45-6789.", "123-45-6789"),
    ("pii.ssn", "SSN: 123456789", "123456789"),
    ("pii.ssn", "Social Security number 123 45 6789", "123 45 6789"),
    ("secret.anthropic", "sk-ant-" + "api03-abcDEF123_abcdefghij-klmnop", None),
    ("secret.aws", "AKIA" + "IOSFODNN7EXAMPLE", None),
    ("secret.aws", "ASIA" + "IOSFODNN7EXAMPLE", None),
    ("secret.github", "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789", None),
    ("secret.github", "github_pat_" + "11ABCDEFG0abcdefghijkl_mnop", None),
    ("secret.gitlab", "glpat-" + "abcdefghij0123456789", None),
    ("secret.google", "AIza" + "SyA1234567890abcdefghijklmnopqrstuv", None),
    ("secret.google", "GOCSPX-" + "abcdefghijklmnopqrstuvwxyz01", None),
    ("secret.huggingface", "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", None),
    ("secret.jwt", "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", None),
    ("secret.npm", "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789", None),
    ("secret.openai", "sk-" + "proj-abcdefghij_klmnopqrst-uvwxyz", None),
    ("secret.openai", "sk-" + "abcdefghijklmnopqrstT3BlbkFJabcdefghijklmnop0123", None),
    ("secret.pypi", "pypi-" + "AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAw", None),
    ("secret.sendgrid", "SG." + "abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", None),
    ("secret.slack", "xoxb-" + "123456789012-abcdefghij", None),
    ("secret.slack", "https://hooks.slack.com/" + "services/T00000000/B00000000/abcdefghijklmnop", None),
    ("secret.stripe", "sk_live_" + "abcdefghijklmnop1234", None),
    ("secret.stripe", "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
    ("secret.url", "postgres://app:s3cr3t@db.example.org/x", "s3cr3t"),
    ("secret.url", "https://user:p%40ss@example.com", "p%40ss"),
    ("secret.authorization", "Authorization: Bearer mF_9.B5f-4.1JqM8", "mF_9.B5f-4.1JqM8"),
    ("secret.authorization", "authorization: basic dXNlcjpwYXNzd29yZDE=", "dXNlcjpwYXNzd29yZDE="),
    ("secret.assignment", "password=hunter2", "hunter2"),
    ("secret.assignment", "DB_PASSWORD: 'tr0ub4dor&3'", "tr0ub4dor&3"),
    ("secret.assignment", '{"password": "correct-horse!"}', "correct-horse!"),
    ("secret.assignment", '{"api_key": "a8f3kd92ms01xk3l9d"}', "a8f3kd92ms01xk3l9d"),
    ("secret.assignment", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
    ("secret.assignment", "https://x.example/?access_token=8d7f6g5h4j3k2l1mn0&page=2", "8d7f6g5h4j3k2l1mn0"),
    ("secret.private_key", "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", None),
    ("secret.private_key", "-----BEGIN PRIVATE" + " KEY-----\\nMIIE\\n-----END PRIVATE KEY-----", None),
    ("secret.private_key", "-----BEGIN OPENSSH PRIVATE" + " KEY-----\nb3BlbnNz\naC1rZXk", None),
]

NOT_FOUND = [
    "e83c5163316f89bfbde7d9ab23ca2e25604af290",  # a Git commit
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "550e8400-e29b-41d4-a716-446655440000",
    "507f1f77bcf86cd799439011",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "2026-05-06T12:13:14Z 2026-05-06T12:13:14.123456+02:00 20260506121314",
    "1700000000 1700000000000 1700000000000000",
    "2026-01-02 01-02-2026 01.02.2026 01/02/2026 00:00:01",
    "version 10.0.19045.3803, v1.2.3.4, Chrome/120.0.6099.109, package==1.2.3.4, 1.2.3, 1.2.3.4.5",
    "ORD-2026-00123456, 112-3456789-1234567, order 1234567890123456, #4111111111111112",
    "RFC 8259, ISO 13616, (555) 12, 555-0100, 911, 42 of 1234, 10.50, 1,234,567.89, 3.14159265358979",
    "127.0.0.1 0.0.0.0 255.255.255.0 ::1 fe80::1 300.1.1.1",
    "std::string abc::def 12:34:56 aa:bb:cc:dd:ee:ff http://localhost:8080/a/b",
    "git@github.com:org/repo.git, logo@2x.png, lodash@4.17.21, @property, user@localhost, a @ b.c",
    'password = os.environ["DB_PASSWORD"]; password: str; password=None; password = get_password()',
    "secret = settings.SECRET_KEY, token = self.token, api_key=config.api_key",
    "Password must be at least 8 characters. password: required",
    'tokens=4096 max_tokens: 16384 "token_type":"bearer" {"type": "password"} "next_token": "abcdef1234567890abcdef"',
    "api_key=YOUR_API_KEY_HERE1 api_key=<your-key-1> password=${DB_PASSWORD} password=******** token={{ token1 }}",
    "primary_key=12345678901234567890 key: value, keyboard: qwertyuiop1234567890",
    "secret_name: projects/p1/secrets/db-password1, SecretArn=arn:aws:secretsmanager:eu-west-1:123:secret:x1",
    "postgres://user:${PASSWORD}@db/x https://example.com/a@b/c ssh://git@host/x",
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",
    "@@ -1,7 +1,7 @@ +12345678 -12345678 +10:30",
    "the eyJ prefix, sk-learn, sk_test, ghp_short, AKIA, xoxb-, Bearer token, basic understanding of it",
    "Boston, MA 02110-1301, clause 252.227-7013, OID 2.5.29.14, http://169.254.169.254/x, RFC 5890 §2.3.2.1",
    'START = b"-----BEGIN OPENSSH PRIVATE' + ' KEY-----"; END = b"-----END OPENSSH PRIVATE KEY-----"',
    'secret_active_for_24_hours": keep_old_secret_active_for_24_hours, redis://[[username]:[password]]@localhost',
    "DE89 3704 0044 0532 0130 01",  # wrong check digits
    "4111 1111 1111 1112 378282246310006",
    "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000",
]


@pytest.mark.parametrize(("kind", "text", "what"), FOUND)
def test_what_a_detector_is_for_is_found(kind: str, text: str, what: str | None) -> None:
    found = [(each.kind, text[each.start : each.end]) for each in find(text, [kind])]
    assert found == [(kind, what or text)]


@pytest.mark.parametrize(("kind", "text", "what"), FOUND)
def test_it_is_found_by_all_detectors_together_and_in_the_middle_of_things(
    kind: str, text: str, what: str | None
) -> None:
    whole = f'{{"a": "x", "b": "({text})"}}'
    start = whole.index(what or text)
    assert any(each.start <= start < each.end for each in find(whole, ALL))


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert [(each.kind, text[each.start : each.end]) for each in find(text, ALL)] == []


def test_every_detector_has_an_example() -> None:
    assert {kind for kind, _, _ in FOUND} == set(BUILTIN.names)


def test_part_of_a_longer_word_or_number_is_not_it() -> None:
    for text in ("xAKIA" + "IOSFODNN7EXAMPLE", "AKIA" + "IOSFODNN7EXAMPLEX", "94111111111111111", "41111111111111111"):
        assert find(text, ["secret.aws", "pii.card"]) == ()


def test_a_key_that_was_cut_off_is_found_as_far_as_it_goes() -> None:
    text = "-----BEGIN PRIVATE" + " KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ\nabc"
    assert find(f"cat key.pem\n{text}", ["secret.*"])[-1][1:] == (12, 12 + len(text))


def test_a_key_without_an_end_does_not_hide_what_follows_another() -> None:
    begin, end = "-----BEGIN PRIVATE" + " KEY-----", "-----END PRIVATE KEY-----"
    text = f"{begin}\nAAAA\n<cut>\n{begin}\nBBBB\n{end}"
    found = find(text, ["secret.private_key"])
    assert all(any(each.start <= text.index(part) < each.end for each in found) for part in ("AAAA", "BBBB"))


# Ways to write it


@pytest.mark.parametrize(
    "text",
    [
        "alice%40example.com",
        "alice%2540example.com",
        "ali\u200bce@exam\u00adple.com",
        "\uff41lice@example\uff0ecom",
        "alice\ufe6bexample.com",
        base64.b64encode(b"to: alice@example.com").decode(),
        base64.urlsafe_b64encode(b"??>alice@example.com").decode().rstrip("="),
        base64.b64encode(base64.b64encode(b"alice@example.com")).decode(),
        base64.encodebytes(b"some lines before it " * 6 + b"alice@example.com").decode(),
    ],
)
def test_however_it_is_spelt_it_is_found(text: str) -> None:
    (found,) = find(f"x: {text} !", ["pii.*"])
    assert found.kind == "pii.email"
    assert found.start == 3
    assert found.end >= 3 + len(text.rstrip())


def test_digits_of_other_scripts_and_printed_dashes_are_digits_and_dashes() -> None:
    for text in (
        "\uff14\uff11\uff11\uff11 1111 1111 1111",
        "4111\u20131111\u20131111\u20131111",
        "4111\u00a01111\u00a01111\u00a01111",
        "".join(chr(0x660 + int(digit)) for digit in "4111111111111111"),
    ):
        assert find(text, ["pii.card"])[0][1:] == (0, len(text))


def test_base64_of_anything_else_is_left_alone() -> None:
    for data in (b"nothing of interest in here", bytes(range(256)), b"\x89PNG alice@example.com\x00\xff"):
        assert find(base64.b64encode(data).decode(), ALL) == ()


# One's own


def test_a_detector_of_ones_own_is_asked_by_its_name() -> None:
    detectors = Detectors({"acme.ticket": lambda text: [(0, 3, "acme.ticket.open")] if text.startswith("TCK") else []})
    assert find("TCK-1 a@b.co", ["acme.*"], detectors) == (("acme.ticket.open", 0, 3),)
    assert find("TCK-1 a@b.co", ["pii.email"], detectors) == (("pii.email", 6, 12),)


def fails(text: str) -> list[tuple[int, int, str]]:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    "detector",
    [
        fails,
        lambda text: None,
        lambda text: [(0, 1)],
        lambda text: [(0, 99, "acme")],
        lambda text: [(-1, 1, "acme")],
        lambda text: [(1, 0, "acme")],
        lambda text: [(0, 1, "pii.email")],
        lambda text: repeat((0, 1, "acme")),
        lambda text: [(0, 1, "acme.AKIA7")],
        lambda text: [(0.0, 1, "acme")],
    ],
)
def test_a_detector_that_fails_withholds_the_whole_text(detector) -> None:
    assert find("some text", ["acme"], Detectors({"acme": detector})) == (("detector.failed", 0, 9),)


def test_a_detector_that_is_not_here_withholds_the_whole_text() -> None:
    assert find("some text", ["pii.*", "acme.*"]) == (("detector.missing", 0, 9),)
    assert BUILTIN.missing(["pii.emial"]) == ("no detector is called 'pii.emial' (did you mean 'pii.email'?)",)


@pytest.mark.parametrize("name", ["pii.email", "detector.x", "Acme", "a b", "", "x..y", "a]"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(DefinitionInvalid):
        Detectors({name: lambda text: []})
