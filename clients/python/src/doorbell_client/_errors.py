"""What a call fails with."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ._generated.types import WORDS

_DETAILS = "grpc-status-details-bin"
# What gRPC says, with one of these codes, of a stream that ended before there was an answer: a
# proxy that reset it, say. Where the connection went, the code is UNAVAILABLE by itself.
_BROKEN = re.compile("RST_STREAM|Stream removed")
_BROKEN_CODES = ("CANCELLED", "INTERNAL", "UNKNOWN")
_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True)
class Violation:
    """What is wrong with one argument."""

    field: str
    """Which argument, as the methods of a client name it."""

    description: str
    """What is wrong with it, for people."""


class DoorbellError(Exception):
    """The service refused a call, or could not be reached in time."""

    code: str
    """The status code of gRPC, `"UNAVAILABLE"` say."""

    reason: str | None
    """Why, as an `ErrorReason` has it, `"QUEUE_FULL"` say; None where the service did not answer.
    Judge one that you do not know by its code."""

    violations: list[Violation]
    """Each argument that is wrong."""

    retry_after: datetime.timedelta | None
    """How long the service asks to wait before the same call is made again."""

    message: str
    """What happened, for people."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str | None = None,
        violations: Iterable[Violation] = (),
        retry_after: datetime.timedelta | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = list(violations)
        self.retry_after = retry_after
        name = f"{code} ({reason})" if reason else code
        super().__init__(f"{name}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        # So that it comes through whole where another process raised it.
        return _made, (
            self.code,
            self.message,
            self.reason,
            self.violations,
            self.retry_after,
        )


def _made(
    code: str,
    message: str,
    reason: str | None,
    violations: list[Violation],
    retry_after: datetime.timedelta | None,
) -> DoorbellError:
    return DoorbellError(
        code, message, reason=reason, violations=violations, retry_after=retry_after
    )


def word(field: str) -> str:
    """What callers call a field of the proto."""
    return WORDS.get(field, field)


def argument(path: str) -> str:
    """What callers call a field of a request, or what is within it."""
    path = path.removeprefix("content.")
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    return word(name) + path[len(name) :]


def error_of(failed: grpc.RpcError) -> DoorbellError:
    """What gRPC raised, with its details."""
    code: str = failed.code().name
    message: str = failed.details() or ""
    status = _status(failed)
    info = _detail(status, ErrorInfo)
    retry = _detail(status, RetryInfo)
    wrong = _detail(status, BadRequest)
    violations = [
        Violation(argument(violation.field), violation.description)
        for violation in (wrong.field_violations if wrong else ())
    ]
    if violations:
        message = "; ".join(f"{wrong.field}: {wrong.description}" for wrong in violations)
    elif code == "DEADLINE_EXCEEDED" and info is None:
        message = "the service did not answer in time; what was asked for may have been done"
    elif code in _BROKEN_CODES and info is None and _BROKEN.search(message):
        code = "UNAVAILABLE"
        message = f"the connection broke before there was an answer ({message})"
    delay = retry.retry_delay if retry else None
    return DoorbellError(
        code,
        message,
        reason=info.reason if info else None,
        violations=violations,
        retry_after=datetime.timedelta(
            seconds=delay.seconds, microseconds=delay.nanos // 1000
        )
        if delay
        else None,
    )


def _status(failed: Any) -> Status:
    for key, value in failed.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _detail(status: Status, kind: type[_Detail]) -> _Detail | None:
    for detail in status.details:
        found = kind()
        if detail.Unpack(found):
            return found
    return None
