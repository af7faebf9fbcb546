"""Users' tokens, as the real service takes them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

import jwt
import pytest
from service import ROOT, SECRET, Service, sender_token

from doorbell_client import Doorbell, create_user_token

KEYS = ROOT / "tests" / "fixtures" / "auth"

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
OF: list[tuple[Algorithm, str]] = [("RS256", "rsa-a"), ("ES256", "ec-a"), ("EdDSA", "ed-a")]


def unread(service: Service, token: str) -> int:
    """The count that the service answers with."""
    count: int = service.ask("GetUnreadCount", token).head.unread_count
    return count


@pytest.mark.parametrize(("algorithm", "name"), OF)
def test_a_private_key_signs_what_the_service_takes(
    tmp_path: Path, algorithm: Algorithm, name: str
) -> None:
    public = str(KEYS / f"{name}.public.pem")
    service = Service(
        tmp_path,
        DOORBELL_JWT_PUBLIC_KEY_FILE=public,
        DOORBELL_JWT_ISSUER="https://example.com",
        DOORBELL_JWT_AUDIENCE="doorbell",
        DOORBELL_JWT_ORGANIZATION_CLAIM="tenant",
        DOORBELL_JWT_USER_CLAIM="person",
    )
    service.start()
    try:
        token = create_user_token(
            org_id="acme",
            user_id="ann",
            key=(KEYS / f"{name}.private.pem").read_bytes(),
            algorithm=algorithm,
            expires_in=datetime.timedelta(minutes=5),
            key_id="a",
            issuer="https://example.com",
            audience="doorbell",
            organization_claim="tenant",
            user_claim="person",
        )
        assert jwt.get_unverified_header(token)["kid"] == "a"
        sender = sender_token(tenant="acme", iss="https://example.com", aud="doorbell")
        with Doorbell(service.url, sender) as doorbell:
            doorbell.send_in_app(org_id="acme", user_id="ann", type="a", title="A")
            doorbell.send_in_app(org_id="acme", user_id="bob", type="a", title="A")
            doorbell.send_in_app(org_id="acme", user_id="bob", type="a", title="B")
        assert unread(service, token) == 1
    finally:
        service.kill()


def test_a_secret_signs_what_the_service_takes(shared: Service) -> None:
    with Doorbell(shared.url, sender_token()) as doorbell:
        doorbell.send_in_app(org_id="acme", user_id="müller", type="a", title="A")
    # As it stands in a file, with its line end.
    for key in (SECRET, f"{SECRET}\n".encode()):
        token = create_user_token(org_id="acme", user_id="müller", key=key)
        assert unread(shared, token) == 1
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        assert claims["exp"] - claims["iat"] == 900
        assert {name: claims[name] for name in claims if name not in ("exp", "iat")} == {
            "organizationId": "acme",
            "userId": "müller",
            "sub": "müller",
        }


def test_a_backend_that_has_the_key_makes_its_own_token(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOORBELL_JWT_SECRET", SECRET)

    def get_token() -> str:
        return create_user_token(org_id="*", role="service", subject="billing", expires_in=60)

    with Doorbell(shared.url, get_token) as doorbell:
        sent = doorbell.send_to_topic(org_id="globex", topic_id="none", type="a", title="A")
    assert sent.send.sender == "billing"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"org_id": ""}, "org_id: must be 1 to 128 bytes"),
        ({"org_id": "*"}, "org_id: no user is of `[*]`"),
        ({"user_id": "ü" * 65}, "user_id: must be 1 to 128 bytes"),
        ({"user_id": "a\nb"}, "user_id: must be .* without control characters"),
        ({"user_id": 7}, "user_id: must be a string"),
        ({"user_id": None}, "user_id: must be a string"),
        ({"key": None}, "key: give the secret or the private key, or set DOORBELL_JWT_SECRET"),
        ({"key": "b" * 31}, "key: the secret must have at least 32 bytes"),
        ({"expires_in": 0}, "expires_in: must be above 0"),
        ({"algorithm": "RS256"}, "key: cannot sign with RS256"),
        ({"algorithm": "none"}, "key: cannot sign with none"),
    ],
)
def test_what_the_service_would_not_take_is_not_made(
    arguments: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOORBELL_JWT_SECRET", raising=False)
    rest: dict[str, Any] = {"org_id": "acme", "user_id": "ü" * 64, "key": SECRET}
    assert create_user_token(**rest)
    with pytest.raises((TypeError, ValueError), match=what) as refused:
        create_user_token(**rest | arguments)
    assert SECRET not in str(refused.value)
