"""The real service, started and killed by tests, and one that only says what it is told to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import jwt
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from doorbell_client import AsyncDoorbell, Doorbell
from doorbell_client._messages import message_class, to_message

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("DOORBELL_BINARY") or str(ROOT / "target" / "debug" / "doorbell")
SECRET = "a secret for tests alone, 32 bytes at least"
# How long a test waits for what should come at once: the machine may be busy.
PATIENCE = 60.0

# Makes a client, of both kinds in turn: see conftest.py.
Connect = Callable[..., Doorbell]


def sender_token(organization: str = "acme", **claims: Any) -> str:
    """What a backend shows."""
    all_claims = {"organizationId": organization, "userRole": "service", "exp": time.time() + 3600}
    return jwt.encode(all_claims | claims, SECRET, algorithm="HS256")


def eventually(is_so: Callable[[], bool], what: str) -> None:
    """Waits until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """One below those that the system gives out by itself."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Service:
    """`doorbell serve` on a port and a data directory of its own."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")}
        self._env = env | {
            "DOORBELL_LISTEN": f"127.0.0.1:{self.port}",
            "DOORBELL_DATA_DIR": str(directory / "data"),
            "DOORBELL_JWT_SECRET": SECRET,
            "DOORBELL_DRAIN_DELAY": "0s",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, on the same data where it ran before, and waits until it listens."""
        with self._log.open("ab") as log:
            process = subprocess.Popen([BINARY, "serve"], env=self._env, stdout=log, stderr=log)
        self._process = process

        def listens() -> bool:
            assert process.poll() is None, self._log.read_text()
            with socket.socket() as trial:
                return trial.connect_ex(("127.0.0.1", self.port)) == 0

        eventually(listens, "the service listens")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it without a chance to say or write anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, method: str, token: str, **request: Any) -> Any:
        """What the service answers to a call of a user, by the name of the call."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as opened:
            channel: Any = opened
            call = channel.unary_unary(
                f"/doorbell.v1.NotificationService/{method}",
                response_deserializer=message_class(f"doorbell.v1.{method}Response").FromString,
            )
            message = to_message(f"doorbell.v1.{method}Request", request)
            metadata = [("authorization", f"Bearer {token}")]
            return call(message.SerializeToString(), metadata=metadata, timeout=PATIENCE)

    def inbox(self, user: str, organization: str = "acme") -> list[Any]:
        """All that is in somebody's inbox, the newest first."""
        claims = {"organizationId": organization, "userId": user, "exp": time.time() + 3600}
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        found: list[Any] = []
        page_token = ""
        while True:
            page = self.ask("GetRecent", token, limit=100, page_token=page_token)
            found += page.notifications
            page_token = page.next_page_token
            if not page_token:
                return found

    def titles(self, user: str) -> Counter[str]:
        """How often each title is in somebody's inbox."""
        return Counter(notification.title for notification in self.inbox(user))


class Relay:
    """A way to a service on which a test can have everything lost, as where a machine vanished."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._is_lost: list[threading.Event] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            is_lost = threading.Event()
            self._open += [near, far]
            self._is_lost.append(is_lost)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._carry, args=(source, sink, is_lost), daemon=True
                ).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, is_lost: threading.Event) -> None:
        try:
            while data := source.recv(65536):
                if not is_lost.is_set():
                    sink.sendall(data)
        except OSError:
            pass

    def lose(self) -> int:
        """From now on nothing comes through on the connections there are; how many."""
        for is_lost in self._is_lost:
            is_lost.set()
        return len(self._is_lost)

    def close(self) -> None:
        """Ends it and all connections."""
        for one in (self._listener, *self._open):
            one.close()


class Blocking:
    """An `AsyncDoorbell` that is waited for, so that one test serves both clients."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._client = AsyncDoorbell(*args, **options)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            started = method(**arguments)
            if asyncio.iscoroutine(started):
                return self._loop.run_until_complete(started)
            return self._drained(started)

        return call

    def _drained(self, items: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.run_until_complete(anext(items))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """Ends the connection and the loop, with what was not iterated to its end."""
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


class Fake:
    """A server of gRPC whose answers a test says beforehand, one for each call."""

    def __init__(self, *answers: Callable[[Any], bytes]) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, bytes, dict[str, Any]]] = []
        self.times: list[float] = []
        handler: Any = _Handler(self)
        self._server: Any = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        """Ends it, whatever is under way."""
        self._server.stop(None).wait()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def service(self, handler_call_details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            metadata = {key: value for key, value in handler_call_details.invocation_metadata}
            self._fake.times.append(time.monotonic())
            self._fake.calls.append((handler_call_details.method, request, metadata))
            answers = self._fake.answers
            return (answers.pop(0) if len(answers) > 1 else answers[0])(context)

        of: Any = grpc
        return of.unary_unary_rpc_method_handler(answer)


class Resetting:
    """A server of HTTP/2 that ends the streams of the first calls with these error codes, as a
    proxy does, and has an empty answer for the others.
    """

    _HEADERS = b"\x88" + b"\x0f\x10\x10application/grpc"
    _TRAILERS = b"\x00\x0bgrpc-status\x010"

    def __init__(self, *codes: int) -> None:
        self.calls = 0
        self._codes = list(codes)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as frames:
            frames.read(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            connection.sendall(_frame(4))
            while head := frames.read(9):
                frames.read(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == 4 and not flags:  # Settings want to be acknowledged.
                    connection.sendall(_frame(4, 1))
                if kind == 0 and flags & 1:  # The end of a request.
                    connection.sendall(self._answer(stream))

    def _answer(self, stream: int) -> bytes:
        self.calls += 1
        if self._codes:
            return _frame(3, 0, stream, self._codes.pop(0).to_bytes(4, "big"))
        message = _frame(0, 0, stream, bytes(5))
        headers = _frame(1, 4, stream, self._HEADERS)
        return headers + message + _frame(1, 5, stream, self._TRAILERS)

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def ok(_: Any) -> bytes:
    """An empty answer, of whatever call."""
    return b""


def refuse(code: grpc.StatusCode, retry_after: float | None = None) -> Callable[[Any], bytes]:
    """An error, which asks for a pause of so many seconds."""

    def answer(context: Any) -> bytes:
        if retry_after is not None:
            delay = Duration(seconds=int(retry_after), nanos=round(retry_after % 1 * 1e9))
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=delay))
            status = Status(code=code.value[0], message="not now", details=[detail])
            trailer = ("grpc-status-details-bin", status.SerializeToString())
            context.set_trailing_metadata([trailer])
        context.abort(code, "not now")
        raise AssertionError

    return answer


STOP, CONTINUE = signal.SIGSTOP, signal.SIGCONT
