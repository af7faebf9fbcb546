"""What a call is, when it is made again, and how it ends."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from ._errors import DoorbellError

Answer = TypeVar("Answer")

# The bound of the first pause, in seconds; it doubles with each failure.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
# What may pass by itself.
PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "UNSET"


UNSET = Unset.UNSET
"""Stands for an argument that was not given, where None means something."""


def given(**arguments: Any) -> dict[str, Any]:
    """Those of them that were given."""
    return {name: value for name, value in arguments.items() if value is not UNSET}


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """A call of the service, and what makes it safe to make it again."""

    path: str
    request: str
    response: str
    answer: type[Answer]
    keyed: bool = False
    once_with: str | None = None

    def prepared(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request as it is sent, each time that it is."""
        if self.keyed and request.get("idempotency_key") is None:
            return {**request, "idempotency_key": str(uuid.uuid4())}
        return request

    def is_repeatable(self, request: dict[str, Any]) -> bool:
        """Whether nothing is doubled where it is made again."""
        return self.once_with is None or not request.get(self.once_with)


def pause_after(error: DoorbellError, failures: int, longest: float = LONGEST_PAUSE) -> float:
    """How long to wait, in seconds, after so many failures one after the other.

    As long as the service asks for, or else longer each time; never the same for all.
    """
    bound: float = min(FIRST_PAUSE * 2 ** min(failures, 16), longest)
    if error.retry_after is not None:
        return error.retry_after.total_seconds() + random.uniform(0, bound)
    return random.uniform(bound / 2, bound)


class Tries:
    """The tries of one call, which share its time."""

    def __init__(self, timeout: float, retries: int, wait: float = 0) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout: must be above 0 seconds, is {timeout}")
        self._deadline = time.monotonic() + timeout + wait
        self._retries = retries
        self._failures = 0

    def remaining(self) -> float:
        """The seconds that are left, and a little where none are: the call says it then."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause(self, error: DoorbellError) -> float:
        """How long to wait before the next try.

        Raises:
            DoorbellError: `error`, where there is no next try.
        """
        pause = pause_after(error, self._failures)
        self._failures += 1
        is_last = self._failures > self._retries or pause >= self.remaining()
        if error.code not in PASSING or is_last:
            raise error
        return pause
