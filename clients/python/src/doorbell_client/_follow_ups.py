"""Follow-ups as a stream that resumes."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message

from ._call import PASSING, pause_after
from ._errors import DoorbellError
from ._generated.calls import LIST_FOLLOW_UPS
from ._generated.types import FollowUpUnless, ListFollowUpsResponse, Notification
from ._messages import to_message

_LOG = logging.getLogger("doorbell_client")
# The longest that the service lets a call wait, in seconds.
_WAIT = 30.0
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """A notification that nobody looked at in time."""

    position: str
    """Where to go on, once this one is done: to be stored as it is, and given as `after`."""

    user_id: str
    """Whose inbox it is in."""

    notification: Notification
    """It, as it is now: read since where `read_at` is there, and without its content where
    `removed_at` is."""

    unless: FollowUpUnless | None
    """What nobody did."""

    due_time: datetime.datetime
    """When it was due."""


class Following:
    """Where a stream of follow-ups is."""

    def __init__(self, org_id: str, after: str | None, follow: bool) -> None:
        self._org_id = org_id
        self._position, self._epoch = parsed(after) if after else (0, "")
        self._failures = 0
        self._follow = follow
        self.wait = _WAIT if follow else 0.0
        """How long a call waits for the first, in seconds."""
        self.is_over = False
        """Whether there are no more, where nobody waits for the next."""

    def request(self) -> Message:
        """What to ask next."""
        values = {
            "organization_id": self._org_id,
            "after_position": self._position,
            "epoch": self._epoch,
            "limit": 100,
            "wait": datetime.timedelta(seconds=self.wait),
        }
        return to_message(LIST_FOLLOW_UPS.request, values)

    def taken(self, page: ListFollowUpsResponse) -> Iterator[FollowUp]:
        """What an answer has; the next question goes on after it."""
        self._failures = 0
        # Of a restored database the service lists all, and names its epoch.
        self._position, self._epoch = page.position, page.epoch
        self.is_over = not self._follow and not page.follow_ups
        for listed in page.follow_ups:
            yield FollowUp(
                position=f"{listed.position} {page.epoch}",
                user_id=listed.user_id,
                notification=listed.notification,
                unless=listed.unless,
                due_time=listed.due_time,
            )

    def pause(self, error: DoorbellError) -> float:
        """How long to wait, in seconds, before it is asked again.

        Raises:
            DoorbellError: `error`, where waiting does not help.
        """
        if error.code not in (*PASSING, "DEADLINE_EXCEEDED"):
            raise error
        pause = pause_after(error, self._failures, _LONGEST_PAUSE)
        self._failures += 1
        _LOG.warning("follow-ups of %s: %s; asking again in %.1f s", self._org_id, error, pause)
        return pause


def parsed(position: str) -> tuple[int, str]:
    """A stored position, as a call has it.

    Raises:
        ValueError: It is none.
    """
    number, _, epoch = position.strip().partition(" ")
    if not (number.isascii() and number.isdigit() and epoch):
        raise ValueError(f"after: must be the `position` of a follow-up, is {position!r}")
    return int(number), epoch
