"""A small client of an appliance's REST API, as an administrator's script would have one."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from conclave.demo.errors import step_failed, too_slow

MEDIA_TYPE: Final = "application/vnd.safenetinc.lunasa+json;version="
CALL_SECONDS: Final = 90.0
TASK_SECONDS: Final = 90.0
IDLE_SECONDS: Final = 2.0
TASK_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, the resource it names, and its body."""

    status: int
    location: str
    body: Any


class RestClient:
    """One administrator's private session on port 8443; the server's certificate is verified."""

    def __init__(
        self,
        address: str,
        port: int,
        ca_file: Path,
        *,
        told: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        self._connection = http.client.HTTPSConnection(
            address, port, timeout=CALL_SECONDS, context=context
        )
        self._headers = {"Content-Type": MEDIA_TYPE}
        self._told = told
        self._monotonic = monotonic
        self._pause = pause
        self._used_at = monotonic()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def use_password(self, user: str, password: str) -> None:
        """Send this user's credentials with every call until a session is opened."""
        self._headers.pop("Cookie", None)
        token = b64encode(f"{user}:{password}".encode()).decode()
        self._headers["Authorization"] = f"Basic {token}"

    def open_session(self) -> None:
        """Open a private session, which alone holds logins to HSM and partitions."""
        self.call("POST", "/auth/session", {})
        self._headers.pop("Authorization")

    def get(self, path: str) -> Any:
        """Return the body of a resource."""
        return self.call("GET", path).body

    def look(self, path: str) -> Any:
        """Return the body of a resource without a word about it; None when it is refused."""
        reply = self._exchange("GET", path, None)
        return reply.body if reply.status == HTTPStatus.OK else None

    def call(self, method: str, path: str, body: object = None) -> Reply:
        """Call and follow what the call started until its end; a Waiting task is started.

        Raises InternalFault with the appliance's own words when it refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        return self._follow(method, path, self._exchange(method, path, data))

    def upload(self, path: str, name: str, content: bytes) -> None:
        """Send one file as multipart (RFC 7578)."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        data = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        self._follow("POST", path, self._exchange("POST", path, data, kind))

    def _follow(self, method: str, path: str, reply: Reply) -> Reply:
        self._told(f"{method} {path} -> {reply.status}")
        if reply.status >= 400:
            raise step_failed(f"{method} {path} was refused: {_reason(reply)}")
        if reply.location.startswith("/tasks/") and not path.startswith("/tasks/"):
            return self._finish_task(reply.location)
        return reply

    def _finish_task(self, path: str) -> Reply:
        deadline = self._monotonic() + TASK_SECONDS
        while self._monotonic() < deadline:
            task = self._exchange("GET", path, None)
            if task.status == 303:
                outcome = self._exchange("GET", f"{path}/response", None)
                if outcome.status >= 400:
                    raise step_failed(f"Task {path} failed: {_reason(outcome)}")
                return outcome
            if task.status != 200:
                raise step_failed(f"Task {path} was lost: {_reason(task)}")
            if task.body["state"] == "Waiting":
                self.call("POST", f"{path}/actions/start", {})
            self._pause(TASK_POLL_SECONDS)
        raise too_slow(f"Task {path} did not end within {TASK_SECONDS:.0f} seconds.")

    def _exchange(
        self, method: str, path: str, data: bytes | None, kind: dict[str, str] | None = None
    ) -> Reply:
        headers = self._headers | (kind or {})
        if self._monotonic() - self._used_at > IDLE_SECONDS:
            # The door closes a connection that was idle for too long; the next one is opened here.
            self._connection.close()
        try:
            self._connection.request(method, path, body=data, headers=headers)
            response = self._connection.getresponse()
            raw = response.read()
            self._used_at = self._monotonic()
        except (OSError, http.client.HTTPException) as cause:
            self._connection.close()
            raise step_failed(f"{method} {path} had no answer: {cause}.") from cause
        cookie = response.getheader("Set-Cookie")
        if cookie:
            self._headers["Cookie"] = cookie.partition(";")[0]
        decoded = json.loads(raw) if raw else None
        return Reply(response.status, response.getheader("Location") or "", decoded)


def _reason(reply: Reply) -> str:
    body = reply.body if isinstance(reply.body, dict) else {}
    words = body.get("details") or body.get("message") or "no reason was given"
    return f"{reply.status} {body.get('id', '')} {words}"
