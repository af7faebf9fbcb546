"""Doorbell for backends: in-app notifications, one call to send.

    from doorbell_client import Doorbell

    doorbell = Doorbell("https://doorbell.example.com", token)
    doorbell.send_in_app(org_id="acme", user_id="alice", type="comment", title="Bob commented")
"""

from ._client import AsyncDoorbell, Doorbell
from ._errors import DoorbellError, Violation
from ._follow_ups import FollowUp
from ._generated import types
from ._generated.types import *
from ._tokens import create_user_token

__all__ = [
    "AsyncDoorbell",
    "Doorbell",
    "DoorbellError",
    "FollowUp",
    "Violation",
    "create_user_token",
]
__all__ += types.__all__
