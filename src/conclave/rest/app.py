"""One REST door as an ASGI application: every operation takes the same way through it.

The way: route, caller and rights, media type, page, body, arguments, preconditions, handler.
Each step raises one of our errors or passes on; one place turns an error into its body.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

import msgspec
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.user_files import shown_name
from conclave.errors import BadInput, ConclaveError, InternalFault
from conclave.operations.auditing import Attempt, audited
from conclave.operations.calling import decode_arguments
from conclave.operations.model import (
    NOBODY,
    AnyOperation,
    Call,
    Doors,
    NoArguments,
    Reply,
)
from conclave.operations.rights import require_right
from conclave.operations.task_table import TaskTable
from conclave.rest.errors import (
    error_body,
    error_headers,
    http_status,
    too_large,
    warning_value,
)
from conclave.rest.gate import Gate
from conclave.rest.media_types import JSON, OCTETS, TEXT, check_media_type
from conclave.rest.paging import cut, wanted_flags, wanted_page
from conclave.rest.routing import Match, Router
from conclave.rest.sessions import COOKIE, SessionTable
from conclave.rest.tasks import execute
from conclave.rest.uploads import received
from conclave.settings import RestSettings, Strictness

_log = logging.getLogger(__name__)
_LOGGED_CHARACTERS: Final = 200
_COOKIE_RULES: Final = "HttpOnly; Secure; Path=/; SameSite=Strict"


class RestApp:
    """Serve the operations of one door."""

    def __init__(
        self,
        appliance: Appliance,
        operations: tuple[AnyOperation, ...],
        door: Doors,
        *,
        sessions: SessionTable,
        tasks: TaskTable,
        settings: RestSettings,
    ) -> None:
        self._appliance = appliance
        self._sessions = sessions
        self._tasks = tasks
        self._settings = settings
        self._router = Router(each for each in operations if door & each.doors)
        keeps_sessions = door is Doors.REST
        self._name = "rest" if keeps_sessions else "admin"
        self._gate = Gate(appliance.users, sessions if keeps_sessions else None, self._name)
        self._strictness = settings.strictness if keeps_sessions else Strictness.JSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        request.state.warnings = []
        response = await self._answer(request)
        for each in request.state.warnings:
            response.headers.append("Warning", warning_value(each))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        headers: dict[str, str] = {}
        try:
            match = self._router.find(request.scope.get("raw_path") or request.url.path.encode())
            operation = match.operations.get(request.method)
            if any(each.needs_cluster_package for each in match.operations.values()):
                self._appliance.packages.cluster.require()
            if operation is None:
                headers["Allow"] = match.allowed
                message = f"{request.method} is not allowed here; {match.allowed} are."
                raise BadInput(faults.METHOD_NOT_ALLOWED, message)
            return await self._serve(request, operation, match)
        except ConclaveError as error:
            return self._refuse(request, error, headers)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:  # noqa: BLE001 - the boundary of a connection: logged, not explained
            _log.exception("request failed: %s %s", request.method, request.url.path)
            message = "The request failed inside the appliance; its log says why."
            return self._refuse(request, InternalFault(faults.INTERNAL, message), headers)

    async def _serve(self, request: Request, operation: AnyOperation, match: Match) -> Response:
        attempt = Attempt(
            operation=operation,
            door=self._name,
            source=request.client.host if request.client else "unknown",
            target=request.url.path,
        )
        reads = self._appliance.config.audit.reads
        async with audited(self._appliance.audit, attempt, reads=reads):
            call = await self._admit(request, attempt, match)
            if operation.takes_file:
                reply = await self._execute_with_file(request, attempt, call)
            else:
                attempt.arguments = decode_arguments(operation, await self._read(request))
                reply = await execute(
                    operation, call, attempt.arguments, request.url.path, self._settings
                )
            attempt.reply = reply
        response = _render(operation, reply, call, request.url.path)
        _log.info(
            "%s by %s from %s: %d",
            operation.name,
            attempt.user.user_id if attempt.user else "nobody",
            attempt.source,
            response.status_code,
        )
        return response

    async def _execute_with_file(self, request: Request, attempt: Attempt, call: Call) -> Reply:
        attempt.arguments = NoArguments()
        # Before the file is taken, so that nobody sends much in vain.
        for check in attempt.operation.checks:
            check(call, attempt.arguments)
        receiving = received(
            request.stream().__aiter__(),
            request.headers.get("content-type", ""),
            files=self._appliance.files,
            user_id=call.by.user.user_id,
            chunk_seconds=self._settings.body_seconds,
        )
        async with receiving as upload:
            attempt.target = f"{attempt.target}/{shown_name(upload.incoming.name)}"
            with_file = replace(call, upload=upload)
            return await execute(
                attempt.operation, with_file, attempt.arguments, request.url.path, self._settings
            )

    async def _admit(self, request: Request, attempt: Attempt, match: Match) -> Call:
        """Return the call of a caller who has the right, its headers and page looked at."""
        operation = attempt.operation
        admitted = await self._gate.admit(request, operation, attempt.source)
        if admitted.caller is not None:
            attempt.user = admitted.caller.user
            require_right(
                self._appliance.roles,
                attempt.user,
                operation,
                match.path,
                attempt=f"{operation.method} {operation.path}",
            )
        self._check_media_type(request, operation)
        query = request.query_params.multi_items()
        return Call(
            appliance=self._appliance,
            tasks=self._tasks,
            sessions=self._sessions,
            caller=admitted.caller,
            session=admitted.session,
            source=attempt.source,
            path=match.path,
            page=wanted_page(operation, query),
            flags=wanted_flags(operation, query),
            warn=request.state.warnings.append,
        )

    def _check_media_type(self, request: Request, operation: AnyOperation) -> None:
        if operation.roles == NOBODY or not operation.media:
            return
        headers = request.headers
        check_media_type(
            headers.get("content-type"),
            headers.get("accept"),
            has_body=headers.get("content-length", "0") != "0" or "transfer-encoding" in headers,
            strictness=self._strictness,
            kinds=operation.media,
        )

    async def _read(self, request: Request) -> bytes:
        """Return the body; raise what refuses one that is too large or too slow."""
        limit = self._settings.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_large(limit)
        except TimeoutError:
            message = f"The body did not arrive within {self._settings.body_seconds:g} s."
            raise BadInput(faults.REQUEST_TIMEOUT, message) from None
        return bytes(body)

    def _refuse(self, request: Request, error: ConclaveError, headers: dict[str, str]) -> Response:
        status = http_status(error.fault, missing_right=self._appliance.config.missing_right_status)
        source = request.client.host if request.client else "unknown"
        _log.info(
            "%s %r by %s from %s: %d %s",
            request.method,
            request.scope["path"][:_LOGGED_CHARACTERS],
            getattr(request.state, "caller", "nobody"),
            source,
            status,
            error.fault.rest_id,
        )
        body = msgspec.json.encode(error_body(error, status))
        return _json(body, status, headers | error_headers(error, status))


def _render(operation: AnyOperation, reply: Reply, call: Call, path: str) -> Response:
    status = operation.statuses[0] if reply.status is None else reply.status
    headers: dict[str, str] = {}
    body = reply.body
    if operation.paged:
        body, headers = cut(reply, call.page, path)
    if reply.location:
        headers["Location"] = reply.location
    if reply.session_secret:
        headers["Set-Cookie"] = f"{COOKIE}={reply.session_secret}; {_COOKIE_RULES}"
    elif reply.session_closed:
        headers["Set-Cookie"] = f"{COOKIE}=; Max-Age=0; {_COOKIE_RULES}"
    if reply.download is not None:
        return StreamingResponse(
            iterate_in_threadpool(reply.download),
            status_code=status,
            headers=_common(headers),
            media_type=OCTETS,
        )
    if reply.text:
        return Response(reply.text, status_code=status, headers=_common(headers), media_type=TEXT)
    if reply.document:
        return _json(reply.document, status, headers)
    if body is None:
        return Response(status_code=status, headers=_common(headers))
    return _json(msgspec.json.encode(body), status, headers)


def _json(body: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status_code=status, headers=_common(headers), media_type=JSON)


def _common(headers: dict[str, str]) -> dict[str, str]:
    return headers | {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
