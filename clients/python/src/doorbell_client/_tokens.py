"""Tokens for users, which their pages show to Doorbell."""

from __future__ import annotations

import datetime
import math
import os
import time
from typing import Literal

import jwt

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]

_LEAST_SECRET_BYTES = 32
_MOST_ID_BYTES = 128


def create_user_token(
    *,
    org_id: str,
    user_id: str | None = None,
    key: str | bytes | None = None,
    algorithm: Algorithm = "HS256",
    expires_in: datetime.timedelta | float = 900,
    key_id: str | None = None,
    subject: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    role: str | None = None,
    organization_claim: str = "organizationId",
    user_claim: str = "userId",
    role_claim: str = "userRole",
) -> str:
    """A token with which a page reads and marks the inbox of who is signed in to it.

    Args:
        org_id: The tenant of the user.
        user_id: The user, as sends name them and as your session says it; never as a request
            does.
        key: The secret of HS256, which the service has, too, at least 32 bytes; or the private
            key (PEM) whose public half it has. Else the secret that `DOORBELL_JWT_SECRET` holds.
        algorithm: How it is signed. All but HS256 need `pip install doorbell-client[crypto]`.
        expires_in: How long it counts: a timedelta, or seconds, rounded up. A page asks for
            another by itself.
        key_id: The name of the key in the service's JWKS (`kid`).
        subject: Who it is made for (`sub`), where that is not the user.
        issuer: `iss`, where the service has `DOORBELL_JWT_ISSUER`.
        audience: `aud`, where the service has `DOORBELL_JWT_AUDIENCE`.
        role: For a backend in place of a user: `service` may send. Only then `user_id` may be
            None, and `org_id` be `*`.
        organization_claim: What the service has as `DOORBELL_JWT_ORGANIZATION_CLAIM`.
        user_claim: What the service has as `DOORBELL_JWT_USER_CLAIM`.
        role_claim: What the service has as `DOORBELL_JWT_ROLE_CLAIM`.

    Raises:
        TypeError, ValueError: One of them cannot be; the key is not told.
    """
    _check_id("org_id", org_id)
    if user_id is not None or role is None:
        _check_id("user_id", user_id)
    if org_id == "*" and role is None:
        raise ValueError("org_id: no user is of `*`")
    span = expires_in
    seconds = math.ceil(span.total_seconds() if isinstance(span, datetime.timedelta) else span)
    if seconds <= 0:
        raise ValueError(f"expires_in: must be above 0, is {expires_in!r}")
    now = int(time.time())
    claims: dict[str, str | int | None] = {
        organization_claim: org_id,
        user_claim: user_id,
        role_claim: role,
        "sub": user_id if subject is None else subject,
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + seconds,
    }
    try:
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            _signing(key, algorithm),
            algorithm=algorithm,
            headers=None if key_id is None else {"kid": key_id},
        )
    except NotImplementedError:
        problem = f"algorithm: {algorithm} needs `pip install doorbell-client[crypto]`"
    except (jwt.PyJWTError, AttributeError):
        problem = f"key: cannot sign with {algorithm}; a private key of that kind is needed, as PEM"
    raise ValueError(problem)


def _signing(key: str | bytes | None, algorithm: str) -> bytes:
    key = key or os.environ.get("DOORBELL_JWT_SECRET")
    if not key:
        raise ValueError("key: give the secret or the private key, or set DOORBELL_JWT_SECRET")
    signing = key.encode() if isinstance(key, str) else key
    if algorithm == "HS256":
        # The line end of a file is no part of a secret, for the service neither.
        signing = signing.rstrip(b"\r\n")
        if len(signing) < _LEAST_SECRET_BYTES:
            raise ValueError(f"key: the secret must have at least {_LEAST_SECRET_BYTES} bytes")
    return signing


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a string, is {value!r}")
    is_bad = any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
    if is_bad or not 1 <= len(value.encode()) <= _MOST_ID_BYTES:
        raise ValueError(
            f"{name}: must be 1 to {_MOST_ID_BYTES} bytes without control characters"
        )
