"""Carry one command out: ask for what is missing, confirm, call the operations, lay out the answer.

Invariant: a command calls no other operations than it declares, each with its rights and checks, as
REST does; an operation that destroys runs only after the user proceeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.user_rules import UserRole
from conclave.appliance.users import Login
from conclave.errors import BadInput, ConclaveError, InternalFault, NotAllowed
from conclave.lunash.arguments import (
    fill,
    given,
    in_the_words_of,
    missing,
    path_of,
    require_one_each,
)
from conclave.lunash.grammar import Invocation
from conclave.lunash.printing import PROCEEDING
from conclave.lunash.terminal import EndOfInput, Terminal
from conclave.operations.auditing import Attempt, audited
from conclave.operations.calling import add_task, check, decode_arguments
from conclave.operations.commands import SECRETS, Answers, Command, Kind, Option, Output
from conclave.operations.login_state import LoginState
from conclave.operations.model import (
    AnyOperation,
    Arguments,
    Call,
    Caller,
    Duration,
    Reply,
    Sessions,
)
from conclave.operations.places import DEFAULTS
from conclave.operations.rights import current_user, require_right
from conclave.operations.task_table import Task, TaskTable

DOOR: Final = "lunash"
PROCEED: Final = "proceed"
_GOES_ON: Final = (
    "Task {number} goes on in the background; it ends as if you had waited for it. GET"
    " /tasks/{number} over REST shows how."
)


class Aborted(Exception):
    """The user did not proceed."""


@dataclass(slots=True, eq=False)
class Identity:
    """Who uses a session, and which HSM roles it is logged in as."""

    login: Login
    source: str
    state: LoginState


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all sessions share."""

    appliance: Appliance
    operations: Mapping[str, AnyOperation]
    tasks: TaskTable


class _OwnSession(Sessions):
    """The session of LunaSH as operations see it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def open(self, login: Login) -> str:  # noqa: ARG002
        """Refuse: a connection is its own session."""
        raise NotAllowed(faults.NO_ACL_RULE, "LunaSH opens no further sessions.")

    def renew(self, session: LoginState, login: Login) -> None:
        """Go on after a change of the own password."""
        if session is self._identity.state:
            self._identity.login = login

    def close(self, session: LoginState) -> None:
        """Log all HSM roles out."""
        session.forget()


class Execution:
    """One run of one command; a `ShellCall`."""

    def __init__(
        self, house: House, identity: Identity, terminal: Terminal, command: Command
    ) -> None:
        self._house = house
        self._identity = identity
        self._terminal = terminal
        self._command = command
        self._confirmed = False
        self._prints_json = False

    @property
    def appliance(self) -> Appliance:
        """Return the appliance."""
        return self._house.appliance

    @property
    def state(self) -> LoginState:
        """Return which HSM and partition roles this session is logged in as."""
        return self._identity.state

    @property
    def caller(self) -> Caller:
        """Return the user; raise CredentialRefused when the login is void."""
        login = self._identity.login
        user = current_user(self.appliance.users, login)
        return Caller(user=user, login=login, source=self._identity.source)

    def say(self, line: str = "") -> None:
        """Print a line at once."""
        self._terminal.write(line + "\n")

    async def ask(self, prompt: str, *, secret: bool = False) -> str:
        """Ask for a line below its prompt."""
        self._terminal.write(f"\n{prompt}\n")
        return await self._terminal.answer(secret=secret)

    async def run(self, invocation: Invocation) -> Output:
        """Carry the command out; raise ConclaveError or Aborted."""
        command = self._command
        await self._require_rights()
        for line in () if command.caution is None else command.caution(self):
            self.say(line)
        answers = await self._answers(invocation)
        self._prints_json = "json" in answers
        await self._confirm(answers)
        try:
            if command.run is not None:
                return await command.run(self, answers)
            (name,) = self._names()
            reply = await self.call(name, fill(command, answers), path=await self._path(answers))
        except BadInput as error:
            raise in_the_words_of(command, error) from None
        if command.render is None or reply.body is None:
            success = command.success
            text = success if isinstance(success, str) else success(answers)
            return Output(lines=text.splitlines(), body=reply.body)
        return Output(
            lines=() if "json" in answers else command.render(reply.body), body=reply.body
        )

    # ---- before the call

    def _names(self) -> tuple[str, ...]:
        command = self._command
        if command.run is not None:
            return command.operations
        return tuple(o.name for o in self._house.operations.values() if command in o.commands)

    async def _require_rights(self) -> None:
        """Refuse before anything is asked for; a refusal is recorded.

        The rules of custom roles look at what the path names, so they are asked at the call.
        """
        for name in self._names():
            operation = self._house.operations[name]
            caller = self.caller
            if isinstance(caller.user.role, UserRole):
                try:
                    self._require_right(caller, operation, {})
                except ConclaveError:
                    attempt = self._attempt(operation, caller)
                    async with audited(self.appliance.audit, attempt, reads=False):
                        raise

    def _require_right(self, caller: Caller, operation: AnyOperation, path: dict[str, str]) -> None:
        roles = self.appliance.roles
        attempt = f"run '{self._command.words}'"
        require_right(roles, caller.user, operation, path, attempt=attempt)

    def _attempt(self, operation: AnyOperation, caller: Caller) -> Attempt:
        return Attempt(
            operation=operation,
            door=DOOR,
            source=caller.source,
            target=self._command.words,
            user=caller.user,
        )

    async def _answers(self, invocation: Invocation) -> Answers:
        answers: dict[str, Any] = {}
        for option in self._command.all_options:
            text = invocation.values.get(option.name)
            if text is not None:
                answers[option.name] = _value(option, text)
        require_one_each(self._command, answers)
        for option in self._command.all_options:
            if option.name in answers or given(answers, option.unless):
                continue
            if option.prompt:
                answers[option.name] = _value(option, await self._ask_for(option))
            elif option.required:
                raise missing(self._command, option)
        return answers

    async def _ask_for(self, option: Option) -> str:
        secret = option.kind in SECRETS
        try:
            text = await self.ask(option.prompt, secret=secret)
            if option.confirm and await self.ask(option.confirm, secret=secret) != text:
                message = f"The two answers for -{option.name} differ; nothing was changed."
                raise BadInput(faults.COMMAND_LINE, message)
        except EndOfInput:
            raise missing(self._command, option) from None
        return text

    async def _confirm(self, answers: Answers) -> None:
        proceed = self._command.proceed
        text = proceed if isinstance(proceed, str) else proceed(self, answers)
        if text and "force" not in answers:
            self._terminal.write(f"\n{text}\n")
            if (await self._terminal.answer(secret=False)).strip().lower() != PROCEED:
                raise Aborted
            self._terminal.write(f"{PROCEEDING}\n")
        self._confirmed = bool(proceed)

    async def _path(self, answers: Answers) -> dict[str, str]:
        path = dict(self._command.constants)
        for name, (option, text) in path_of(self._command, answers).items():
            path[name] = text if option.resolve is None else await option.resolve(self, text)
        return path

    # ---- the call

    async def call(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        path: Mapping[str, str] | None = None,
        flags: frozenset[str] = frozenset(),
        progress: bool = True,
    ) -> Reply:
        """Call an operation that the command declares; a task is awaited to its end."""
        if name not in self._names():
            message = f"The command {self._command.words!r} does not declare operation {name!r}."
            raise InternalFault(faults.INTERNAL, message)
        operation = self._house.operations[name]
        caller = self.caller
        attempt = self._attempt(operation, caller)
        reads = self.appliance.config.audit.reads
        async with audited(self.appliance.audit, attempt, reads=reads):
            full = await self._whole_path(operation, path or {})
            attempt.target = operation.path.format_map(full) or self._command.words
            self._require_right(caller, operation, full)
            if operation.needs_cluster_package:
                self.appliance.packages.cluster.require()
            attempt.arguments = decode_arguments(operation, _body(operation, arguments or {}))
            call = self._call(caller, full, flags)
            attempt.reply = await self._perform(operation, call, attempt.arguments, progress)
            return attempt.reply

    async def _whole_path(self, operation: AnyOperation, path: Mapping[str, str]) -> dict[str, str]:
        full = dict(path)
        for name in operation.placeholders:
            if name not in full:
                full[name] = await DEFAULTS[name](self)
        return full

    def _call(self, caller: Caller, path: Mapping[str, str], flags: frozenset[str]) -> Call:
        return Call(
            appliance=self.appliance,
            tasks=self._house.tasks,
            sessions=_OwnSession(self._identity),
            caller=caller,
            session=self._identity.state,
            source=caller.source,
            path=path,
            flags=flags,
        )

    async def _perform(
        self, operation: AnyOperation, call: Call, decoded: Arguments, progress: bool
    ) -> Reply:
        await check(operation, call, decoded)
        waits = operation.waits_when is not None and operation.waits_when(call, decoded)
        if waits and not self._confirmed:
            message = f"'{self._command.words}' destroys what cannot be got back: confirm it."
            raise NotAllowed(faults.TASK_STATE, message)
        if operation.duration is Duration.AT_ONCE:
            tell = self._show_progress if progress else call.progress
            return await operation.handler(replace(call, confirmed=waits, progress=tell), decoded)
        return await self._await_task(operation, replace(call, confirmed=waits), decoded, progress)

    async def _await_task(
        self, operation: AnyOperation, call: Call, arguments: Arguments, progress: bool
    ) -> Reply:
        task = add_task(operation, call, arguments, f"lunash:{self._command.words}")
        if progress:
            task.watchers.append(self._show_progress)
        call.tasks.start(task)
        try:
            await self._wait_for(task)
        finally:
            task.watchers.clear()
        if task.error is not None:
            raise task.error
        if task.reply is None:
            raise NotAllowed(faults.TASK_STATE, _GOES_ON.format(number=task.number))
        return task.reply

    def _show_progress(self, how_far: str) -> None:
        # Beside -json as the trailer: what a script reads is JSON and nothing else.
        write = self._terminal.write_error if self._prints_json else self._terminal.write
        write(f"   {how_far}\n")

    async def _wait_for(self, task: Task) -> None:
        """Wait for the end of a task, or for the user to give up waiting."""
        ended = asyncio.ensure_future(task.done.wait())
        left = asyncio.ensure_future(self._terminal.interrupted())
        try:
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            left.cancel()


def _body(operation: AnyOperation, arguments: Mapping[str, object]) -> bytes:
    """Return what a caller over REST would send."""
    content = arguments.get("content")
    if operation.takes_text and isinstance(content, bytes):
        return content
    return msgspec.json.encode(arguments)


def _value(option: Option, text: str) -> object:
    if option.kind is Kind.FLAG:
        return True
    if option.kind is Kind.NUMBER:
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            message = f"-{option.name} must be a number; it is {text[:32]!r}."
            raise BadInput(faults.COMMAND_LINE, message)
        return int(text)
    return text
