"""What an administrative operation is, whichever door it is called through.

An operation is one typed function with its name, place, rules, rights and results around it.  The
doors read those; none of them knows an operation by name.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import msgspec

from conclave.appliance.user_rules import UserRole
from conclave.appliance.user_store import User
from conclave.appliance.users import Login
from conclave.errors import Fault
from conclave.operations.commands import Command
from conclave.operations.refusals import CLUSTER_CALL
from conclave.operations.reveals import Reveals

if TYPE_CHECKING:
    from conclave.appliance.appliance import Appliance
    from conclave.appliance.user_files import Incoming
    from conclave.operations.login_state import LoginState
    from conclave.operations.task_table import TaskTable


class Arguments(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """Base of what callers send; a repr names the fields only, since some are secret."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class NoArguments(Arguments, frozen=True):
    """Nothing is sent: no body, or an empty object."""


class Result(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what callers get."""


class Doors(enum.Flag):
    """Ports that serve an operation."""

    REST = enum.auto()
    ADMIN = enum.auto()
    BOTH = REST | ADMIN
    LUNASH = 0
    """No port: LunaSH alone, for the reason that the operation declares in `only`."""


class Duration(enum.Enum):
    """Whether an operation is done when it is answered."""

    AT_ONCE = "none"
    TASK = "task"
    """It runs as a task; what ends soon, well or badly, is still answered directly."""


class Media(enum.StrEnum):
    """Kinds of the vendor's media type: what is sent, or for a call without a body, answered."""

    JSON = "json"
    OCTETS = "octet-stream"
    FORM = "multipart"


JUST_JSON: Final = frozenset({Media.JSON})


READERS: Final = frozenset({UserRole.ADMIN, UserRole.OPERATOR, UserRole.MONITOR})
OPERATORS: Final = frozenset({UserRole.ADMIN, UserRole.OPERATOR})
ADMINS: Final = frozenset({UserRole.ADMIN})
AUDITORS: Final = frozenset({UserRole.AUDIT})
EVERYBODY: Final = frozenset(UserRole)
"""Every user who is logged in, with or without a role."""
NOBODY: Final[frozenset[UserRole]] = frozenset()
"""No login is asked for."""


class Sessions(Protocol):
    """What operations need of a door that keeps sessions."""

    def open(self, login: Login) -> str:
        """Open a private session and return its secret."""

    def renew(self, session: LoginState, login: Login) -> None:
        """Keep a session over its user's change of password."""

    def close(self, session: LoginState) -> None:
        """End a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted; `limit` None means all of it."""

    offset: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and from where."""

    user: User
    login: Login
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that came with a call, whole; it is gone after the call unless it is kept."""

    incoming: Incoming
    """Its name is as the caller gave it: nothing is known of it yet."""


def _unseen(_how_far: str) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """All that surrounds the arguments of one call."""

    appliance: Appliance
    tasks: TaskTable
    sessions: Sessions
    caller: Caller | None
    """None for operations that ask for no login."""
    session: LoginState | None
    """The private session, which alone holds logins to HSM and partitions."""
    source: str
    """Address of the caller."""
    path: Mapping[str, str]
    page: Page = Page()
    progress: Callable[[str], None] = _unseen
    """Says how far a task is."""
    warn: Callable[[str], None] = _unseen
    """Says what goes with the answer, whatever that is, of a door without progress."""
    flags: frozenset[str] = frozenset()
    """Those of the operation's flags that were sent as true."""
    upload: Upload | None = None
    """What came with an operation that takes a file."""
    confirmed: bool = False
    """The call waited as a task and was started, so it may destroy."""

    @property
    def by(self) -> Caller:
        """Return the caller of an operation that asks for a login."""
        assert self.caller is not None  # noqa: S101 - the doors let nobody else in
        return self.caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an operation answers."""

    body: msgspec.Struct | None = None
    document: bytes = b""
    """A ready JSON document, in place of a body."""
    text: str = ""
    """Plain text, in place of a body."""
    location: str = ""
    about: str = ""
    """What the audit log says besides."""
    status: int | None = None
    """One of the operation's statuses; None means the first."""
    session_secret: str = ""
    """Secret of a session that was opened."""
    session_closed: bool = False
    download: Iterator[bytes] | None = None
    """A file in chunks, in place of a body."""
    unchanged: bool = False
    """All that was asked for was so before, as when a lost answer is asked for again."""
    total: int | None = None
    """Length of the whole list when `body` is already the wanted page of it."""


DONE: Final = Reply()
_OF_THE_CLUSTER: Final = ("/api/cluster", "/api/keyrings")

A = TypeVar("A", bound=Arguments)
Handler = Callable[[Call, A], Awaitable[Reply]]
Check = Callable[[Call, A], None]
"""A precondition: returns, or raises what forbids the call; its docstring is its description."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation(Generic[A]):
    """One declared operation."""

    name: str
    """Dotted name, such as `partition.create`."""
    method: str
    path: str
    summary: str
    chapter: str
    """Where the cluster administration guide uses it; empty when it does not."""
    handler: Handler[A]
    arguments: type[A] | UnionType
    roles: frozenset[UserRole]
    reveals: Reveals
    """What it tells of others when a customer of a service provider calls it."""
    doors: Doors
    statuses: tuple[int, ...]
    result: type[msgspec.Struct] | None
    checks: tuple[Check[A], ...]
    faults: tuple[Fault, ...]
    """Refusals that are peculiar to the operation, for the documents."""
    duration: Duration
    settle_seconds: float
    """How long a task may take to be answered directly."""
    waits_when: Callable[[Call, A], bool] | None
    """Tells whether a call is destructive, so that it becomes a Waiting task."""
    paged: bool
    flags: tuple[str, ...]
    """Query parameters that are true or false."""
    before_password_change: bool
    """Allowed to a user whose first password is unchanged."""
    media: frozenset[Media]
    """Kinds of the media type that a caller may name; none when it may name any."""
    audited: bool
    """Recorded durably before it is answered; else only when it is refused, or if reads are."""
    cluster_methods: tuple[str, ...]
    """What it asks of the cluster process: the member's state decides what becomes of that."""
    commands: tuple[Command, ...]
    """The LunaSH commands that call it, and nothing else."""
    only: str
    """`REST: why` or `LunaSH: why` of what stands behind one of the doors only."""

    @property
    def key(self) -> tuple[str, str]:
        """Return method and path."""
        return self.method, self.path

    @property
    def needs_cluster_package(self) -> bool:
        """Tell whether there is no such resource until the cluster's package is installed (D2)."""
        return self.path.startswith(_OF_THE_CLUSTER)

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return the names of the path's placeholders, in their order."""
        segments = self.path.split("/")
        return tuple(each.strip("{}") for each in segments if each.startswith("{"))

    @property
    def takes_arguments(self) -> bool:
        """Tell whether anything may be sent."""
        return self.arguments is not NoArguments

    @property
    def takes_file(self) -> bool:
        """Tell whether a file is sent, as multipart."""
        return Media.FORM in self.media

    @property
    def takes_text(self) -> bool:
        """Tell whether what is sent is text as it is, and no JSON."""
        return self.takes_arguments and self.media == {Media.OCTETS}

    def decode(self, body: bytes) -> A:
        """Decode arguments; raises msgspec.DecodeError or its kin."""
        if self.takes_text:
            whole: A = msgspec.convert({"content": body}, type=self.arguments)
            return whole
        decoded: A = msgspec.json.decode(body or b"{}", type=self.arguments)
        return decoded


AnyOperation = Operation[Any]


def _revealed(said: Reveals | None, roles: frozenset[UserRole]) -> Reveals:
    """Return what a declaration says; what monitors may call reveals all unless it says else.

    Whoever calls what is not for monitors has a role that names it.
    """
    return said or (Reveals.HISTORY if roles == READERS else Reveals.NOTHING)


def operation(
    name: str,
    method: str,
    path: str,
    *,
    summary: str,
    arguments: type[A] | UnionType,
    roles: frozenset[UserRole],
    reveals: Reveals | None = None,
    chapter: str = "",
    doors: Doors = Doors.REST,
    statuses: tuple[int, ...] = (204,),
    result: type[msgspec.Struct] | None = None,
    checks: tuple[Check[A], ...] = (),
    faults: tuple[Fault, ...] = (),
    duration: Duration = Duration.AT_ONCE,
    settle_seconds: float = 60.0,
    waits_when: Callable[[Call, A], bool] | None = None,
    paged: bool = False,
    flags: tuple[str, ...] = (),
    before_password_change: bool = False,
    media: frozenset[Media] = JUST_JSON,
    audited: bool | None = None,
    cluster_methods: tuple[str, ...] = (),
    commands: tuple[Command, ...] = (),
    only: str = "",
) -> Callable[[Handler[A]], Operation[A]]:
    """Declare the decorated function as an operation."""
    told = _revealed(reveals, roles)

    def declare(handler: Handler[A]) -> Operation[A]:
        return Operation(
            name=name,
            method=method,
            path=path,
            summary=summary,
            chapter=chapter,
            handler=handler,
            arguments=arguments,
            roles=roles,
            reveals=told,
            doors=doors,
            statuses=statuses,
            result=result,
            checks=checks,
            faults=(*faults, *CLUSTER_CALL) if told.asked else faults,
            duration=duration,
            settle_seconds=settle_seconds,
            waits_when=waits_when,
            paged=paged,
            flags=flags,
            before_password_change=before_password_change,
            media=media,
            audited=method != "GET" if audited is None else audited,
            cluster_methods=(*told.asked, *cluster_methods),
            commands=commands,
            only=only,
        )

    return declare
