"""A token is believed only if we signed it, for us, for now, and for nothing that was revoked."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from ostler.adapters.tokens.ring import ALGORITHM, KEYS_MAX, KeyRing
from ostler.adapters.tokens.signed import LIFE_S_MAX, SKEW_S, TYPE, US, Verified, mint, shown, verify
from ostler.domain.grant import Grant, Wanted, attenuate
from ostler.kernel.errors import ConfigurationError, TokenRefused

NOW_S = 1_700_000_000
NOW = NOW_S * US
RING = KeyRing([]).rotated()
ROOT = Grant("gra_1", "acme", "ada", "agent:clerk@1", ("crm.*", "pay"), ("crm.*",), expires_us=NOW + 600 * US, depth=2)
CHILD = attenuate(ROOT, Wanted("agent:helper@2", scopes=("crm.read",)), grant_id="gra_2")


def minted(*chain: Grant, **options: Any) -> str:
    return mint(chain or (ROOT,), RING, issuer="house", audience="mill", now_us=NOW, **options)


def verified(token: str, ring: KeyRing = RING, **options: Any) -> Verified:
    expected: dict[str, Any] = {"audience": "mill", "tenant": "acme", "now_us": NOW}
    return verify(token, ring, **expected | options)


def refused(token: str, ring: KeyRing = RING, **options: Any) -> str:
    with pytest.raises(TokenRefused) as error:
        verified(token, ring, **options)
    return error.value.message


def signed(claims: Any, *, key: Any = None, **header: Any) -> str:
    """What whoever has the key could sign, without a library that would not."""
    key_id, own = RING.signing()
    private = base64.urlsafe_b64decode(f"{(key or own).as_dict(private=True)['d']}=")
    written = json.dumps({"alg": ALGORITHM, "typ": TYPE, "kid": key_id} | header)
    message = f"{b64(written.encode())}.{b64(json.dumps(claims).encode())}"
    return f"{message}.{b64(Ed25519PrivateKey.from_private_bytes(private).sign(message.encode()))}"


def claims(**changes: Any) -> dict[str, Any]:
    return {**shown(minted())["claims"], **changes}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_gives_the_grant_that_it_was_made_of() -> None:
    assert verified(minted()) == Verified(ROOT, "house", "mill", RING.signing()[0], ())


def test_a_token_says_for_whom_who_acts_and_who_acted_before() -> None:
    token = minted(ROOT, CHILD)
    said = shown(token)["claims"]
    assert (said["sub"], said["act"]) == ("ada", {"sub": "agent:helper@2", "act": {"sub": "agent:clerk@1"}})
    assert (said["scope"], said["jti"], said["origins"]) == ("crm.read", "gra_2", ["gra_1"])
    assert said["authorization_details"] == [{"type": "urn:ostler:tools", "tools": ["crm.*"], "depth": 1}]
    assert verified(token).grant == CHILD


def test_a_token_never_outlives_its_grant_or_the_longest_life() -> None:
    assert verified(minted()).grant.expires_us == ROOT.expires_us
    assert verified(minted(life_s=60)).grant.expires_us == NOW + 60 * US
    endless = msgspec.structs.replace(ROOT, expires_us=None)
    assert verified(minted(endless, life_s=10**9)).grant.expires_us == NOW + LIFE_S_MAX * US


def test_no_token_is_made_of_what_does_not_hold() -> None:
    for chain in (
        (CHILD,),
        (ROOT, msgspec.structs.replace(CHILD, scopes=("*",))),
        (msgspec.structs.replace(ROOT, expires_us=NOW),),
    ):
        with pytest.raises(TokenRefused):
            minted(*chain)
    with pytest.raises(ConfigurationError, match="no key"):
        mint([ROOT], KeyRing([]), issuer="house", audience="mill", now_us=NOW)
    with pytest.raises(ConfigurationError, match="no key"):
        mint([ROOT], KeyRing.read(json.dumps(RING.public())), issuer="house", audience="mill", now_us=NOW)


def test_whoever_has_the_public_keys_can_verify_and_not_sign() -> None:
    public = KeyRing.read(json.dumps(RING.public()))
    assert verified(minted(), public).grant == ROOT
    private = json.loads(RING.private())["keys"][0]["d"]
    assert private not in json.dumps(RING.public())
    assert private not in repr(RING)


def without_signature(alg: str) -> str:
    key_id = RING.signing()[0]
    header = b64(json.dumps({"alg": alg, "typ": TYPE, "kid": key_id}).encode())
    return f"{header}.{b64(json.dumps(claims()).encode())}."


def with_public_key_as_hmac_secret() -> str:
    """The classic: the algorithm is changed to a symmetric one, and the public key is the shared secret."""
    key_id = RING.signing()[0]
    header = b64(json.dumps({"alg": "HS256", "typ": TYPE, "kid": key_id}).encode())
    message = f"{header}.{b64(json.dumps(claims(scope='*')).encode())}"
    secret = base64.urlsafe_b64decode(RING.public()["keys"][0]["x"] + "=")
    return f"{message}.{b64(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def with_another_key() -> str:
    return signed(claims(), key=OKPKey.generate_key("Ed25519"))


def with_another_key_brought_along() -> str:
    key = OKPKey.generate_key("Ed25519")
    return signed(claims(), key=key, jwk=key.as_dict(private=False))


def with_a_foreign_key_id() -> str:
    key = OKPKey.generate_key("Ed25519")
    return signed(claims(), key=key, kid=key.thumbprint())


def by_an_older_name_of_the_algorithm() -> str:
    return signed(claims(), alg="EdDSA")


def of_another_type() -> str:
    return signed(claims(), typ="at+jwt")


def with_a_header_that_must_be_understood() -> str:
    return signed(claims(), crit=["exp"], exp=1)


def with_other_claims_under_the_old_signature() -> str:
    header, _, signature = minted().split(".")
    return f"{header}.{b64(json.dumps(claims(scope='*')).encode())}.{signature}"


def with_other_tools_under_the_old_signature() -> str:
    header, payload, signature = minted().split(".")
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).replace(b'"tools":["crm.*"]', b'"tools":["*"]')
    return f"{header}.{b64(text)}.{signature}"


def of_a_symmetric_key() -> str:
    return jws.serialize_compact(
        {"alg": "HS256", "typ": TYPE, "kid": RING.signing()[0]}, json.dumps(claims()), OctKey.generate_key(256)
    )


@pytest.mark.parametrize(
    "forge",
    [
        lambda: without_signature("none"),
        lambda: without_signature("None"),
        lambda: without_signature("Ed25519"),
        with_public_key_as_hmac_secret,
        with_another_key,
        with_another_key_brought_along,
        with_a_foreign_key_id,
        by_an_older_name_of_the_algorithm,
        of_another_type,
        with_a_header_that_must_be_understood,
        with_other_claims_under_the_old_signature,
        with_other_tools_under_the_old_signature,
        of_a_symmetric_key,
    ],
)
def test_a_forged_token_is_refused(forge: Callable[[], str]) -> None:
    assert refused(forge())


@given(st.data())
def test_a_token_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    token = minted()
    place = data.draw(st.integers(0, len(token) - 2))  # the last one has bits that are not used
    other = data.draw(st.characters(codec="utf-8").filter(lambda char: char != token[place]))
    assert refused(token[:place] + other + token[place + 1 :])


@given(st.text() | st.binary().map(b64) | st.builds(lambda *parts: ".".join(parts), st.text(), st.text(), st.text()))
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text)
    with pytest.raises(TokenRefused):
        shown(f"{text}.{text}")


def test_a_token_without_bounds_is_not_even_looked_at() -> None:
    assert "at most" in refused("a" * 100_000)


def test_a_token_for_others_is_refused() -> None:
    assert refused(minted(), audience="bakery") == "The token is for 'mill', and this is 'bakery'."
    assert refused(minted(), tenant="rival") == "The token is for the tenant 'acme', and this is 'rival'."


def test_a_token_holds_for_its_time_and_clocks_may_differ_a_little() -> None:
    token = minted(life_s=60)
    end = NOW + 60 * US
    assert verified(token, now_us=end + (SKEW_S - 1) * US).issuer == "house"
    assert refused(token, now_us=end + SKEW_S * US) == "The token has expired."
    assert verified(token, now_us=NOW - SKEW_S * US).issuer == "house"
    assert refused(token, now_us=NOW - (SKEW_S + 1) * US) == "The token is from the future."


def test_a_token_is_worth_nothing_once_its_grant_or_one_before_it_is_revoked() -> None:
    token = minted(ROOT, CHILD)
    assert verified(token, revoked={"gra_3"}).issuer == "house"
    for void in ("gra_1", "gra_2"):
        assert refused(token, revoked={void}) == f"The grant {void} was revoked."


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW_S + LIFE_S_MAX + 1},
        {"exp": NOW_S},
        {"exp": "soon"},
        {"exp": None},
        {"aud": ["mill", "bakery"]},
        {"scope": "a\0b"},
        {"authorization_details": []},
        {"authorization_details": [{"type": "payment", "tools": ["*"], "depth": 0}]},
        {"authorization_details": [{"type": "urn:ostler:tools", "tools": ["*"], "depth": 99}]},
        {"authorization_details": [{"type": "urn:ostler:tools", "tools": ["*"], "depth": 0, "amount_max": 5}]},
        {"cnf": {"jkt": "a proof of possession that we would not ask for"}},
    ],
    ids=str,
)
def test_what_is_signed_and_not_understood_is_refused(changes: dict[str, Any]) -> None:
    assert verified(signed(claims())).issuer == "house"
    assert refused(signed(claims(**changes)))


@pytest.mark.parametrize("missing", ["sub", "act", "aud", "exp", "iat", "nbf", "jti", "tenant", "scope", "iss"])
def test_nothing_of_a_token_may_be_missing(missing: str) -> None:
    assert refused(signed({name: value for name, value in claims().items() if name != missing}))


def test_after_a_rotation_old_tokens_hold_and_new_ones_are_signed_anew() -> None:
    old = minted()
    new = RING.rotated()
    assert verified(old, new).grant == ROOT
    assert new.signing()[0] != RING.signing()[0]
    token = mint([ROOT], new, issuer="house", audience="mill", now_us=NOW)
    assert refused(token, RING) == "The token was signed by a key that is not known here."
    for _ in range(KEYS_MAX):
        new = new.rotated()
    assert len(new.public()["keys"]) == KEYS_MAX
    assert refused(old, new)


def test_a_ring_is_read_as_it_was_written() -> None:
    again = KeyRing.read(RING.rotated().private())
    assert KeyRing.read(again.private()).private() == again.private()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{}", '{"keys":[]}', '{"keys":[{"kty":"oct","k":"AAAA"}]}', '{"keys":3}', "[" * 10_000),
        json.dumps({"keys": [OKPKey.generate_key("X25519").as_dict(private=False)]}),
        json.dumps({"keys": json.loads(RING.private())["keys"] * (KEYS_MAX + 1)}),
    ],
)
def test_what_is_no_ring_of_keys_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        KeyRing.read(text)
