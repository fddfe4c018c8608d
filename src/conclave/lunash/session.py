"""A user's session: the first change of password, command lines one after another, their results.

It knows no SSH: lines, answers and output go through a `Terminal`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.system_log import LUSH_LOGGER
from conclave.errors import BadInput, ConclaveError, InternalFault
from conclave.lunash import printing
from conclave.lunash.execution import DOOR, Aborted, Execution, House, Identity
from conclave.lunash.grammar import HelpWanted, Invocation, make_tree, parse, read_line
from conclave.lunash.help import help_lines
from conclave.lunash.terminal import EndOfInput, Idle, Interrupted, Terminal
from conclave.operations.auditing import Attempt, audited
from conclave.operations.commands import Command, Output

EXIT: Final = Command(words="exit", summary="Leave the session.")
HELP: Final = Command(words="help", summary="List the commands, or explain one: help <command>.")
OWN_COMMANDS: Final = (HELP, EXIT)
PASSWORD_ATTEMPTS: Final = 3
FAILURE: Final = 65535
_log = logging.getLogger(__name__)
_lush = logging.getLogger(LUSH_LOGGER)


class Session:
    """One session; `commands` are those that exist at its opening, `absent` the others."""

    def __init__(
        self,
        house: House,
        identity: Identity,
        terminal: Terminal,
        commands: Sequence[Command],
        absent: Sequence[Command] = (),
    ) -> None:
        self._house = house
        self._identity = identity
        self._terminal = terminal
        self.root: Final = make_tree((*commands, *OWN_COMMANDS), absent)

    async def run_one(self, line: str) -> int:
        """Carry one line out and return the exit status: 0 or 1."""
        try:
            return 0 if await self._run(line) is not False else 1
        except Idle:
            self._print(["", "The session was idle for too long."])
            return 1

    async def run_all(self, last_login: str = "") -> int:
        """Read lines until the user leaves; 1 when one failed that nobody read along to see."""
        terminal = self._terminal
        prompt = printing.prompt(self._house.appliance.config.host_name)
        if terminal.interactive:
            self._print(printing.banner(last_login))
        well = True
        while True:
            try:
                line = await terminal.command(prompt)
                succeeded = await self._run(line)
            except Interrupted:
                continue
            except BadInput as error:
                self._print([*printing.misunderstood(error), ""])
                succeeded = False
            except Idle:
                self._print(["", "The session was idle for too long."])
                return 1
            except EndOfInput:
                succeeded = None
            await terminal.drain()
            if succeeded is None or self._is_void():
                return 0 if well or terminal.interactive else 1
            well = well and succeeded

    async def change_first_password(self, current: str | None) -> bool:
        """Let the user replace a first password; tell whether that was done.

        `current` is the password of the login; None when a key was used, so it is asked for.
        """
        user_id = self._identity.login.user_id
        self._print(printing.change_banner(user_id))
        for _ in range(PASSWORD_ATTEMPTS):
            try:
                known = current or await self._question("(current) UNIX password:")
                password = await self._question("New password:")
                if await self._question("Retype new password:") != password:
                    self._print(["Sorry, passwords do not match.", ""])
                    continue
                await self._change_password(user_id, known, password)
            except (EndOfInput, Interrupted, Idle):
                return False
            except ConclaveError as error:
                self._print([error.message, ""])
                continue
            self._print(
                [
                    "passwd: all authentication tokens updated successfully.",
                    "",
                    "Password change successful.",
                    "",
                ]
            )
            return True
        return False

    async def _change_password(self, user_id: str, current: str, password: str) -> None:
        """Change the own password, with the record that the operation of REST leaves."""
        appliance, source = self._house.appliance, self._identity.source
        attempt = Attempt(
            operation=self._house.operations["user.password"],
            door=DOOR,
            source=source,
            target=f"/users/{user_id}/actions/changePassword",
            user=appliance.users.current(self._identity.login),
        )
        async with audited(appliance.audit, attempt, reads=False):
            appliance.audit.require_writable()
            self._identity.login = await appliance.users.change_own_password(
                user_id, current, password, source=source
            )

    def _is_void(self) -> bool:
        """Tell whether the user was deleted, disabled or changed meanwhile."""
        return self._house.appliance.users.current(self._identity.login) is None

    async def _question(self, text: str) -> str:
        self._terminal.write(text + " ")
        return await self._terminal.answer(secret=True)

    # ---- one line

    async def _run(self, line: str) -> bool | None:
        """Carry a line out; tell whether it succeeded, None when the session ends."""
        try:
            words = read_line(line)
            if not words:
                return True
            parsed = parse(words, self.root)
        except BadInput as error:
            self._print([*printing.misunderstood(error), ""])
            return False
        if isinstance(parsed, HelpWanted):
            return self._help(parsed)
        if parsed.command is EXIT:
            return None
        if parsed.command is HELP:
            return self._help(HelpWanted(self.root))
        return await self._carry_out(parsed)

    def _help(self, wanted: HelpWanted) -> bool:
        lines = help_lines(wanted.node)
        trailer = printing.FAILED if wanted.incomplete else printing.SUCCEEDED
        self._print([*lines, trailer, ""])
        return not wanted.incomplete

    async def _carry_out(self, invocation: Invocation) -> bool:
        words = invocation.command.words
        execution = Execution(self._house, self._identity, self._terminal, invocation.command)
        try:
            output = await execution.run(invocation)
        except (Aborted, Interrupted, EndOfInput):
            return self._fail(words, printing.aborted(words))
        except Idle:
            self._note(words, FAILURE)
            raise
        except ConclaveError as error:
            return self._fail(words, printing.failed(words, error))
        except Exception:  # noqa: BLE001 - the boundary of a command: logged, not explained
            _log.exception("a command failed: %s", words)
            message = "The command failed inside the appliance; its log says why."
            fault = InternalFault(faults.INTERNAL, message)
            return self._fail(words, printing.failed(words, fault))
        self._show(output, json="json" in invocation.values)
        self._note(words, 0)
        return True

    def _fail(self, words: str, lines: Sequence[str]) -> bool:
        self._note(words, FAILURE)
        self._print([*lines, ""])
        return False

    def _show(self, output: Output, *, json: bool) -> None:
        if json:
            body = msgspec.json.format(msgspec.json.encode(output.body), indent=2)
            self._terminal.write(body.decode() + "\n")
            self._terminal.write_error(f"\n{printing.SUCCEEDED}\n\n")
            return
        self._print([*printing.succeeded(output.lines), ""])

    def _note(self, words: str, result: int) -> None:
        """Log a command as the product does: result, words, user, origin; no values."""
        user_id, source = self._identity.login.user_id, self._identity.source
        _lush.info("%d : Command: %s  : %s : %s", result, words, user_id, source)

    def _print(self, lines: Sequence[str]) -> None:
        self._terminal.write("".join(line + "\n" for line in lines))
