"""A real appliance with its two REST applications, spoken to by httpx without a network.

Everything lives in one event loop that runs while a test waits, so tests stay plain functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from starlette.types import ASGIApp

from conclave.appliance.appliance import Appliance, open_appliance
from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.errors import BadInput, NotFound
from conclave.operations.model import Doors
from conclave.rest.doors import make_apps
from conclave.rest.openapi import OPERATIONS, document
from conclave.rest.routing import Router
from conclave.settings import RestSettings
from tests.support.appliance_bench import make_authorized_cluster, make_config

T = TypeVar("T")
DEADLINE_SECONDS = 90.0
VENDOR = "application/vnd.safenetinc.lunasa+json;version="
ADMIN = ("admin", "Administrator-1")
OPERATOR = ("operator", "Operator-Op-1")
MONITOR = ("monitor", "Monitor-Mon-1")
AUDITOR = ("audit", "Auditor-Aud-1")
DOCUMENT = document(OPERATIONS)
_ROUTER = Router(OPERATIONS)


class Loop:
    """An event loop that runs while a test waits for it; children need the main thread's."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, at most until the deadline."""
        return self._runner.run(self._bounded(coroutine))

    def close(self) -> None:
        """End the loop."""
        self._runner.close()

    @staticmethod
    async def _bounded(coroutine: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await coroutine


class Client:
    """One caller with a cookie jar; each answer is held against the OpenAPI document."""

    def __init__(
        self,
        loop: Loop,
        app: ASGIApp,
        *,
        auth: tuple[str, str] | None,
        media_type: str,
        source: str = "192.0.2.1",
    ) -> None:
        self._loop = loop
        transport = httpx.ASGITransport(app=app, client=(source, 50000))
        self._media_type = media_type
        self.answered: list[tuple[str, int]] = []
        """Names of the operations called, with the status of the answer."""
        self.http = httpx.AsyncClient(
            transport=transport, base_url="https://appliance.test", auth=auth, timeout=30
        )

    def call(self, method: str, path: str, json: object = None, **options: Any) -> httpx.Response:
        """Send one request with the media type, unless `headers` says else."""
        headers = {"Content-Type": self._media_type, "Accept": "*/*"} | options.pop("headers", {})
        sent = {name: value for name, value in headers.items() if value is not None}
        if json is not None:
            options["content"] = httpx.Request("POST", "https://x", json=json).content
        response = self._loop.run(self.http.request(method, path, headers=sent, **options))
        self.answered.append((require_documented(method, response), response.status_code))
        return response

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, json: object = None, **options: Any) -> httpx.Response:
        return self.call("POST", path, json, **options)

    def put(self, path: str, json: object = None, **options: Any) -> httpx.Response:
        return self.call("PUT", path, json, **options)

    def patch(self, path: str, json: object = None, **options: Any) -> httpx.Response:
        return self.call("PATCH", path, json, **options)

    def delete(self, path: str, json: object = None, **options: Any) -> httpx.Response:
        return self.call("DELETE", path, json, **options)

    def open_session(self) -> Self:
        """Open a private session, kept in the cookie jar."""
        response = self.post("/auth/session")
        assert response.status_code == 204, response.text
        return self

    def close(self) -> None:
        self._loop.run(self.http.aclose())


def require_documented(method: str, response: httpx.Response) -> str:
    """Return the operation's name; fail when its document does not name the answer's status."""
    try:
        operation = _ROUTER.find(response.request.url.raw_path).operations[method]
    except (BadInput, NotFound, KeyError):
        return ""
    responses = DOCUMENT["paths"][operation.path][method.lower()]["responses"]
    known = str(response.status_code) in responses or "default" in responses
    elsewhere = response.status_code in (404, 405) and operation.doors != Doors.BOTH
    assert known or elsewhere, f"{operation.name} answered {response.status_code}: {response.text}"
    return operation.name


@dataclass
class House:
    """An appliance, its applications and the loop they live in."""

    loop: Loop
    appliance: Appliance
    rest: ASGIApp
    admin: ASGIApp
    clients: list[Client]

    def client(
        self, auth: tuple[str, str] | None = ADMIN, *, media_type: str = VENDOR, **options: Any
    ) -> Client:
        """Return a caller of 8443."""
        return self._client(self.rest, auth, media_type, options)

    def admin_client(self, auth: tuple[str, str] | None = ADMIN, **options: Any) -> Client:
        """Return a caller of 50070."""
        return self._client(self.admin, auth, "application/json", options)

    def _client(
        self, app: ASGIApp, auth: tuple[str, str] | None, media_type: str, options: dict[str, Any]
    ) -> Client:
        made = Client(self.loop, app, auth=auth, media_type=media_type, **options)
        self.clients.append(made)
        return made

    @property
    def hsm_url(self) -> str:
        """Return the HSM's path."""
        return f"/api/lunasa/hsms/{self.appliance.hsm.info().serial}"


@contextmanager
def open_house(
    directory: Path, settings: RestSettings | None = None, **config: object
) -> Iterator[House]:
    """Open an appliance in a directory; its users have their first passwords still."""
    loop = Loop()
    try:
        opening = open_appliance(make_config(directory, rest=settings or RestSettings(), **config))
        appliance = loop.run(opening.__aenter__())
        rest, admin = make_apps(appliance)
        house = House(loop, appliance, rest, admin, [])
        try:
            yield house
        finally:
            for client in house.clients:
                client.close()
            loop.run(opening.__aexit__(None, None, None))
    finally:
        loop.close()


def settle_users(house: House) -> None:
    """Give the built-in users passwords of their own."""
    users = house.appliance.users

    async def settle() -> None:
        for user_id, password in (ADMIN, OPERATOR, MONITOR, AUDITOR):
            await users.set_enabled(user_id, enabled=True)
            await users.change_own_password(user_id, DEFAULT_PASSWORD, password, source="192.0.2.1")

    house.loop.run(settle())


def make_cluster(house: House) -> str:
    """Go from a fresh appliance to an authorized cluster and return its id."""
    return house.loop.run(make_authorized_cluster(house.appliance)).cluster_id
