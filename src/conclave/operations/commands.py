"""What a LunaSH command is: a declaration that stands beside the operation that it calls.

LunaSH reads these rows for its grammar, help, completion and prompts; docs/lunash.md is made from
them.  Nothing here knows a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from conclave.appliance.appliance import Appliance
    from conclave.operations.login_state import LoginState
    from conclave.operations.model import Caller, Reply

PATH: Final = "path:"
"""Begins the target of an option that fills a placeholder of the operation's path."""


class Kind(enum.Enum):
    """What an option takes."""

    TEXT = enum.auto()
    NUMBER = enum.auto()
    """Decimal digits; sent as an integer."""
    CHOICE = enum.auto()
    FLAG = enum.auto()
    """Nothing follows it."""
    SECRET = enum.auto()
    """Typed unseen; kept out of histories and logs."""
    CREDENTIAL = enum.auto()
    """A secret of an HSM role: a password, or a PED where the HSM has one (rule D4)."""


SECRETS: Final = frozenset({Kind.SECRET, Kind.CREDENTIAL})

Answers = Mapping[str, Any]
"""What a command's options came to: text, numbers, and True for flags, by their names."""


class ShellCall(Protocol):
    """What a command may use of the session that runs it."""

    @property
    def appliance(self) -> Appliance:
        """Return the appliance."""

    @property
    def caller(self) -> Caller:
        """Return the user, for what no operation does."""

    @property
    def state(self) -> LoginState:
        """Return which HSM and partition roles this session is logged in as."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        path: Mapping[str, str] | None = None,
        flags: frozenset[str] = frozenset(),
        progress: bool = True,
    ) -> Reply:
        """Call an operation that the command declares, with its rights and checks.

        What `path` leaves out of the operation's placeholders is this appliance's own. A task is
        awaited to its end.  Raises ConclaveError.
        """

    async def ask(self, prompt: str, *, secret: bool = False) -> str:
        """Ask the user for a line."""

    def say(self, line: str = "") -> None:
        """Print a line at once, before the command's result."""


Resolver = Callable[[ShellCall, str], Awaitable[str]]
"""Turns what the user typed, such as a label, into what a path holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command, or a word that stands in a fixed place."""

    name: str
    short: str = ""
    """The fixed shortcut; any unambiguous beginning of the name is understood as well."""
    summary: str
    kind: Kind = Kind.TEXT
    value: str = "string"
    """Names what follows the option, in the synopsis."""
    choices: tuple[str, ...] = ()
    target: str = ""
    """Field of the operation's arguments, such as `authentication[0].password`, or `path:memberid`.
    Empty: only the command's own function reads it."""
    sends: object = True
    """What a flag puts into its target."""
    required: bool = False
    prompt: str = ""
    """Asked when the option is absent; empty: nothing is asked."""
    confirm: str = ""
    """Asked after the prompt; both answers must be equal."""
    unless: tuple[str, ...] = ()
    """Options whose presence makes this one neither required nor asked for."""
    positional: bool = False
    """It has no name on the line: `service start <service>`."""
    resolve: Resolver | None = None


FORCE: Final = Option(
    name="force", short="f", summary="do not ask whether to proceed", kind=Kind.FLAG
)
JSON: Final = Option(name="json", short="js", summary="print JSON", kind=Kind.FLAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command came to."""

    lines: Sequence[str] = ()
    body: msgspec.Struct | None = None
    """What `-json` prints."""


Render = Callable[[Any], Sequence[str]]
"""Lays the operation's result out as lines."""
Run = Callable[[ShellCall, Answers], Awaitable[Output]]
Proceed = str | Callable[[ShellCall, Answers], str]
"""What the user confirms: it ends `Type 'proceed' to ..., or 'quit' to quit now.`  A function may
return an empty text when there is nothing to confirm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of LunaSH."""

    words: str
    """`cluster member authorize`."""
    summary: str
    chapter: str = ""
    """Where the cluster administration guide uses it."""
    options: tuple[Option, ...] = ()
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Fields of the operation's arguments that are always the same, by target."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Placeholders of the operation's path that are always the same."""
    proceed: Proceed = ""
    success: str | Callable[[Answers], str] = "Success"
    """Printed when the command has no other output; `{}` is not replaced."""
    caution: Callable[[ShellCall], Sequence[str]] | None = None
    """Returns what is printed before anything is asked."""
    render: Render | None = None
    run: Run | None = None
    """What is done, when it is more than one call of one operation."""
    operations: tuple[str, ...] = ()
    """Names of the operations that `run` calls."""
    json: bool = False
    """It takes `-json`; true of itself where `render` is given."""
    only: str = ""
    """Why a command that calls no operation stands in LunaSH alone."""

    @property
    def path(self) -> tuple[str, ...]:
        """Return the command's words."""
        return tuple(self.words.split())

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Return the declared options with those that the declaration implies."""
        implied = ((FORCE,) if self.proceed else ()) + ((JSON,) if self.prints_json else ())
        known = {option.name for option in self.options}
        return self.options + tuple(each for each in implied if each.name not in known)

    @property
    def prints_json(self) -> bool:
        """Tell whether the command takes `-json`."""
        return self.json or self.render is not None


def credential(
    name: str,
    *,
    short: str = "",
    summary: str,
    prompt: str,
    target: str,
    unless: tuple[str, ...] = (),
) -> Option:
    """Return an option for an existing credential of an HSM role, asked for once."""
    return Option(
        name=name,
        short=short,
        summary=summary,
        kind=Kind.CREDENTIAL,
        value="password",
        target=target,
        required=True,
        prompt=prompt,
        unless=unless,
    )


def new_credential(
    name: str, *, short: str = "", summary: str, prompt: str, target: str, confirm: str = ""
) -> Option:
    """Return an option for a credential that is set, asked for twice."""
    return Option(
        name=name,
        short=short,
        summary=summary,
        kind=Kind.CREDENTIAL,
        value="password",
        target=target,
        required=True,
        prompt=prompt,
        confirm=confirm or "Please re-enter password to confirm:",
    )
