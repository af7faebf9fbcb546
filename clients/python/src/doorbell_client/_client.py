"""The two clients: what they share is in the bases, what waits is in each."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from ._call import Call, Tries
from ._errors import DoorbellError, error_of
from ._follow_ups import FollowUp, Following
from ._generated.async_calls import AsyncCalls
from ._generated.calls import LIST_FOLLOW_UPS
from ._generated.sync_calls import SyncCalls
from ._messages import from_message, message_class, serialized, to_message

Answer = TypeVar("Answer")
Item = TypeVar("Item")
_Token = TypeVar("_Token")

_URL = "http://127.0.0.1:50051"
_TIMEOUT = 10.0
_RETRIES = 10
CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.primary_user_agent", "doorbell-client-python"),
    # A connection on which nobody answers is found out within the time of a call, which then is
    # made on another. Doorbell takes any number of pings.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was started again is found within a call's time.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The tries are counted here.
    ("grpc.enable_retries", 0),
]


class _Options(Generic[_Token]):
    """Where the service is, and how it is called."""

    def __init__(
        self,
        url: str | None = None,
        token: _Token | None = None,
        *,
        timeout: float = _TIMEOUT,
        retries: int = _RETRIES,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connects at the first call, and then keeps its connection.

        Args:
            url: Where the service is, `http://host:port` or `https://host:port`; else
                `DOORBELL_URL`, else `http://127.0.0.1:50051`.
            token: A token that may send, or what answers with one before each try, within the
                call's time; else `DOORBELL_TOKEN`.
            timeout: How long a call may take with all its tries, in seconds.
            retries: How often a call that failed for what may pass is made again, within its
                time, at most.
            ca_file: The certificates (PEM) to trust in place of the usual ones; else
                `DOORBELL_CA_FILE`.

        Raises:
            ValueError: One of them cannot be.
        """
        url = url or os.environ.get("DOORBELL_URL") or _URL
        self._target, self._is_tls = target(url)
        given = token or os.environ.get("DOORBELL_TOKEN")
        if not given:
            raise ValueError("token: there is none; give one, or set DOORBELL_TOKEN")
        self._token: Any = given
        if retries < 0:
            raise ValueError(f"retries: must not be below 0, is {retries}")
        self._timeout = timeout
        self._retries = retries
        self._ca_file = ca_file or os.environ.get("DOORBELL_CA_FILE")
        self._lock = threading.Lock()
        self._channel: Any = None
        self._stubs: dict[str, Any] = {}

    def _stub(self, call: Call[Any], of: Any) -> Any:
        """What makes this call, with the channels of `grpc` or of `grpc.aio`."""
        with self._lock:
            if self._channel is None:
                self._channel = self._open(of)
            stub = self._stubs.get(call.path)
            if stub is None:
                stub = self._stubs[call.path] = self._channel.unary_unary(
                    call.path,
                    request_serializer=serialized,
                    response_deserializer=message_class(call.response).FromString,
                )
            return stub

    def _open(self, of: Any) -> Any:
        if not self._is_tls:
            return of.insecure_channel(self._target, options=CHANNEL_OPTIONS)
        roots = None
        if self._ca_file:
            with open(self._ca_file, "rb") as file:
                roots = file.read()
        credentials = grpc.ssl_channel_credentials(roots)
        return of.secure_channel(self._target, credentials, options=CHANNEL_OPTIONS)

    def _forget(self) -> Any:
        with self._lock:
            channel, self._channel = self._channel, None
            self._stubs.clear()
            return channel

    def _tries(self, call: Call[Any], request: dict[str, Any], timeout: float | None) -> Tries:
        retries = self._retries if call.is_repeatable(request) else 0
        # What is asked to wait has the time for an answer after that.
        wait = request.get("wait") or datetime.timedelta()
        return Tries(self._timeout if timeout is None else timeout, retries, wait.total_seconds())


def target(url: str) -> tuple[str, bool]:
    """Where that is, as gRPC writes it, and whether it is encrypted."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"url: must begin with http:// or https://, is {url!r}")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"url: must be http(s)://host:port and no more, is {url!r}")
    is_tls = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if is_tls else 80)}", is_tls


def authorization(token: object) -> list[tuple[str, str]]:
    """The token as what a call carries."""
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or any(character <= " " for character in text):
        # What it is instead may be a secret all the same.
        raise ValueError("token: must be a string as a header can carry it, and is not")
    return [("authorization", f"Bearer {text}")]


class Doorbell(_Options[str | Callable[[], str]], SyncCalls):
    """Doorbell for a backend, in calls that wait. Threads may share it.

    Calls raise DoorbellError where the service refuses them or cannot be reached in time, and
    TypeError or ValueError where no request can have an argument.
    """

    def _call(self, call: Call[Answer], request: dict[str, Any], timeout: float | None) -> Answer:
        message = to_message(call.request, call.prepared(request))
        tries = self._tries(call, request, timeout)
        while True:
            try:
                return self._once(call, message, tries)
            except DoorbellError as error:
                time.sleep(tries.pause(error))

    def _once(self, call: Call[Answer], message: Message, tries: Tries) -> Answer:
        token = self._token() if callable(self._token) else self._token
        stub = self._stub(call, grpc)
        try:
            # What is left once the token is there.
            timeout = tries.remaining()
            answer = stub(message, timeout=timeout, metadata=authorization(token))
        except grpc.RpcError as failed:
            raise error_of(failed) from failed
        return from_message(call.answer, answer)

    def _pages(
        self,
        call: Call[Answer],
        items: Callable[[Answer], list[Item]],
        request: dict[str, Any],
        timeout: float | None,
    ) -> Iterator[Item]:
        token = ""
        while True:
            page: Any = self._call(call, {**request, "page_token": token}, timeout)
            yield from items(page)
            token = page.next_page_token
            if not token:
                return

    def follow_ups(
        self, *, org_id: str, after: str | None = None, follow: bool = True
    ) -> Iterator[FollowUp]:
        """The notifications that nobody looked at in time, one after the other as they fall due.

        Goes on through whatever stops meanwhile: while the service is away it asks again, and
        says so in the log `doorbell_client`. Each comes at least once to who notes its
        `position` when the work is done. After a restore of the service's database all that is
        kept, for 30 days, comes anew.

        Args:
            org_id: The tenant.
            after: The `position` of the last one that is done; None: from the first.
            follow: Whether to wait for the next one where there are no more.
        """
        following = Following(org_id, after, follow)
        while not following.is_over:
            try:
                tries = Tries(self._timeout, 0, following.wait)
                page = self._once(LIST_FOLLOW_UPS, following.request(), tries)
            except DoorbellError as error:
                time.sleep(following.pause(error))
            else:
                yield from following.taken(page)

    def close(self) -> None:
        """Ends the connection. Another call makes another one."""
        if channel := self._forget():
            channel.close()

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncDoorbell(_Options[str | Callable[[], str | Awaitable[str]]], AsyncCalls):
    """Doorbell for a backend with asyncio: as `Doorbell`, but that calls are awaited. It is of
    the event loop that makes its first call.
    """

    async def _call(
        self, call: Call[Answer], request: dict[str, Any], timeout: float | None
    ) -> Answer:
        message = to_message(call.request, call.prepared(request))
        tries = self._tries(call, request, timeout)
        while True:
            try:
                return await self._once(call, message, tries)
            except DoorbellError as error:
                await asyncio.sleep(tries.pause(error))

    async def _once(self, call: Call[Answer], message: Message, tries: Tries) -> Answer:
        token = self._token() if callable(self._token) else self._token
        if inspect.isawaitable(token):
            try:
                token = await asyncio.wait_for(token, tries.remaining())
            except asyncio.TimeoutError as late:
                problem = "token: the function that answers with one took too long"
                raise DoorbellError("UNAUTHENTICATED", problem) from late
        stub = self._stub(call, grpc.aio)
        try:
            # What is left once the token is there.
            timeout = tries.remaining()
            answer = await stub(message, timeout=timeout, metadata=authorization(token))
        except grpc.RpcError as failed:
            raise error_of(failed) from failed
        return from_message(call.answer, answer)

    async def _pages(
        self,
        call: Call[Answer],
        items: Callable[[Answer], list[Item]],
        request: dict[str, Any],
        timeout: float | None,
    ) -> AsyncIterator[Item]:
        token = ""
        while True:
            page: Any = await self._call(call, {**request, "page_token": token}, timeout)
            for item in items(page):
                yield item
            token = page.next_page_token
            if not token:
                return

    async def follow_ups(
        self, *, org_id: str, after: str | None = None, follow: bool = True
    ) -> AsyncIterator[FollowUp]:
        """As `Doorbell.follow_ups`, for `async for`."""
        following = Following(org_id, after, follow)
        while not following.is_over:
            try:
                tries = Tries(self._timeout, 0, following.wait)
                page = await self._once(LIST_FOLLOW_UPS, following.request(), tries)
            except DoorbellError as error:
                await asyncio.sleep(following.pause(error))
            else:
                for follow_up in following.taken(page):
                    yield follow_up

    async def close(self) -> None:
        """Ends the connection. Another call makes another one."""
        if channel := self._forget():
            await channel.close()

    async def __aenter__(self) -> AsyncDoorbell:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
