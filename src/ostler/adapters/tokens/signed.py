"""A grant as a JSON Web Token: signed, short-lived, for one audience.

The claims are those of RFC 8693 (`sub` is the user, `act` the agent and, within it, those who acted before), RFC 9068
(`scope`, `jti`) and RFC 9396 (`authorization_details` for tools); the rules those of RFC 8725.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from ostler.adapters.tokens.ring import ALGORITHM, KeyRing
from ostler.domain.grant import Grant, problems_in, problems_in_chain
from ostler.kernel.errors import TokenRefused

TYPE = "ostler-grant+jwt"
"""Says what kind of token it is, so that none of another kind is taken for it (RFC 8725, section 3.11)."""
DETAILS = "urn:ostler:tools"
LIFE_S_MAX = 3600
SKEW_S = 30
"""How far the clocks of two machines may be apart."""
BYTES_MAX = 16 * 1024
US = 1_000_000


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who acts, and who acted before and handed it on."""

    sub: str
    act: "Actor | None" = None


class Detail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tools may be called, and how often it may be handed on."""

    tools: tuple[str, ...]
    depth: int
    type: Literal["urn:ostler:tools"] = "urn:ostler:tools"


class Claims(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a token says. Times are seconds since 1970, `origins` the ids of the grants that it comes from, in order.

    Nothing else may be in it: a claim that is not understood could narrow what is said.
    """

    iss: str
    sub: str
    act: Actor
    aud: str
    iat: int
    nbf: int
    exp: int
    jti: str
    tenant: str
    scope: str
    authorization_details: tuple[Detail]
    origins: tuple[str, ...] = ()


class Verified(msgspec.Struct, frozen=True):
    """A token that holds: the grant that it is, who issued it, and the ids of the grants that it comes from."""

    grant: Grant
    issuer: str
    audience: str
    key: str
    origins: tuple[str, ...]


_REGISTRY = JWSRegistry(algorithms=[ALGORITHM])


def mint(
    chain: Sequence[Grant], ring: KeyRing, *, issuer: str, audience: str, now_us: int, life_s: int = LIFE_S_MAX
) -> str:
    """A token for the last grant of the chain, which holds at most `life_s` seconds and never longer than the grant.

    Raises `TokenRefused` for a chain that does not hold, and `ConfigurationError` without a key that signs.
    """
    if problems := problems_in_chain(chain):
        raise TokenRefused(f"No token is made of this grant: {problems[0]}.")
    grant, now_s = chain[-1], now_us // US
    end_s = now_s + min(life_s, LIFE_S_MAX)
    end_s = min([end_s, *(one.expires_us // US for one in chain if one.expires_us is not None)])
    if end_s <= now_s or not audience or not issuer:
        raise TokenRefused("No token is made that nobody could use: it has no time left, no issuer or no audience.")
    actor: Actor | None = None
    for one in chain:
        actor = Actor(one.actor, actor)
    assert actor is not None
    claims = Claims(
        issuer, grant.subject, actor, audience, now_s, now_s, end_s, grant.id, grant.tenant,
        " ".join(grant.scopes), (Detail(grant.tools, grant.depth),), tuple([one.id for one in chain[:-1]]),
    )  # fmt: skip
    key_id, key = ring.signing()
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key_id}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, registry=_REGISTRY)


def verify(
    token: str, ring: KeyRing, *, audience: str, tenant: str, now_us: int, revoked: Collection[str] = ()
) -> Verified:
    """The grant that a token is. `revoked` are the ids of grants that are void, and with them all that come from them.

    Raises `TokenRefused`, which says why: a forged one, one for others, one whose time is over or has not come.
    """
    claims, key_id = _opened(token, ring)
    now_s = now_us // US
    if claims.aud != audience:
        raise TokenRefused(f"The token is for {claims.aud!r}, and this is {audience!r}.")
    if claims.tenant != tenant:
        raise TokenRefused(f"The token is for the tenant {claims.tenant!r}, and this is {tenant!r}.")
    if now_s >= claims.exp + SKEW_S:
        raise TokenRefused("The token has expired.", hint="Ask for a new one.")
    if max(claims.nbf, claims.iat) > now_s + SKEW_S:
        raise TokenRefused("The token is from the future.", hint="Check the clocks of both machines.")
    if not 0 < claims.exp - claims.iat <= LIFE_S_MAX:
        raise TokenRefused(f"The token is for longer than the {LIFE_S_MAX} seconds that tokens hold.")
    if void := [one for one in (*claims.origins, claims.jti) if one in revoked]:
        raise TokenRefused(f"The grant {void[0]} was revoked.")
    grant = _grant(claims)
    if problems := problems_in(grant):
        raise TokenRefused(f"The token makes no sense: {problems[0]}.")
    return Verified(grant, claims.iss, claims.aud, key_id, claims.origins)


def shown(token: str) -> dict[str, Any]:
    """What a token says of itself, which proves nothing. Raises `TokenRefused` if it is none."""
    try:
        parsed = jws.extract_compact(_bounded(token))
        return {"header": parsed.headers(), "claims": json.loads(parsed.payload)}
    except (JoseError, ValueError, RecursionError) as error:
        raise TokenRefused("This is no token.") from error


def _opened(token: str, ring: KeyRing) -> tuple[Claims, str]:
    """The claims, once the signature was verified by the key that the token names."""
    try:
        parsed = jws.extract_compact(_bounded(token))
        header = parsed.headers()
        if set(header) != {"alg", "typ", "kid"} or (header["alg"], header["typ"]) != (ALGORITHM, TYPE):
            raise TokenRefused(f"This is no token of the type {TYPE}, signed by {ALGORITHM}.")
        key = ring.verifying(str(header["kid"]))
        if key is None:
            raise TokenRefused("The token was signed by a key that is not known here.")
        if not jws.validate_compact(parsed, key, registry=_REGISTRY):
            raise TokenRefused("The signature of the token is not right.")
        return msgspec.json.decode(parsed.payload, type=Claims), str(header["kid"])
    except (JoseError, ValueError, RecursionError) as error:
        raise TokenRefused("This is no token, or its signature is not right.") from error


def _grant(claims: Claims) -> Grant:
    (detail,) = claims.authorization_details
    return Grant(
        id=claims.jti,
        tenant=claims.tenant,
        subject=claims.sub,
        actor=claims.act.sub,
        scopes=tuple(claims.scope.split()),
        tools=detail.tools,
        expires_us=claims.exp * US,
        depth=detail.depth,
        parent=claims.origins[-1] if claims.origins else None,
    )


def _bounded(token: str) -> bytes:
    if len(token) > BYTES_MAX:
        raise TokenRefused(f"A token has at most {BYTES_MAX} bytes.")
    return token.strip().encode()
