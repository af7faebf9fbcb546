"""Tokens for users, which their pages show to Doorbell."""

from __future__ import annotations

import datetime
import time
from typing import Literal

import jwt

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]

_LEAST_SECRET_BYTES = 32
_MOST_ID_BYTES = 128


def create_user_token(
    *,
    org_id: str,
    user_id: str,
    key: str | bytes,
    algorithm: Algorithm = "HS256",
    expires_in: datetime.timedelta | float = 3600,
    key_id: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    organization_claim: str = "organizationId",
    user_claim: str = "userId",
) -> str:
    """A token with which a user reads and marks their own inbox, for a page that they are
    signed in to.

    Args:
        org_id: The tenant of the user.
        user_id: The user, as sends name them.
        key: The secret of HS256, at least 32 bytes, that the service has as
            `DOORBELL_JWT_SECRET` or in a file; or the private key (PEM) whose public half it has.
        algorithm: How it is signed. All but HS256 need `pip install doorbell-client[crypto]`.
        expires_in: How long it counts: a timedelta, or seconds.
        key_id: The name of the key in the service's JWKS (`kid`).
        issuer: What the service has as `DOORBELL_JWT_ISSUER`, if it has.
        audience: What the service has as `DOORBELL_JWT_AUDIENCE`, if it has.
        organization_claim: What the service has as `DOORBELL_JWT_ORGANIZATION_CLAIM`.
        user_claim: What the service has as `DOORBELL_JWT_USER_CLAIM`.

    Raises:
        TypeError, ValueError: One of them cannot be; the key is not told.
    """
    _check_id("org_id", org_id)
    _check_id("user_id", user_id)
    if org_id == "*":
        raise ValueError("org_id: `*` is no organization that a user is of")
    seconds = expires_in
    if isinstance(seconds, datetime.timedelta):
        seconds = seconds.total_seconds()
    if seconds < 1:
        raise ValueError(f"expires_in: must be at least a second, is {expires_in!r}")
    if algorithm == "HS256":
        secret = key.encode() if isinstance(key, str) else key
        # The line end of a file is no part of a secret, for the service neither.
        key = secret.rstrip(b"\r\n")
        if len(key) < _LEAST_SECRET_BYTES:
            raise ValueError(f"key: HS256 needs at least {_LEAST_SECRET_BYTES} bytes")
    now = int(time.time())
    claims: dict[str, str | int] = {
        organization_claim: org_id,
        user_claim: user_id,
        "sub": user_id,
        "iat": now,
        "exp": now + int(seconds),
    }
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    headers = {"kid": key_id} if key_id is not None else None
    try:
        return jwt.encode(claims, key, algorithm=algorithm, headers=headers)
    except NotImplementedError:
        raise ValueError(
            f"algorithm: {algorithm} needs `pip install doorbell-client[crypto]`"
        ) from None
    except (jwt.PyJWTError, TypeError, ValueError):
        raise ValueError(
            f"key: cannot sign with {algorithm}; it must be a private key of that kind, as PEM"
        ) from None


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a string, is {value!r}")
    is_bad = any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
    if is_bad or not 1 <= len(value.encode()) <= _MOST_ID_BYTES:
        raise ValueError(
            f"{name}: must be 1 to {_MOST_ID_BYTES} bytes without control characters"
        )
