"""What becomes of each call in each state of a member: the table that the handlers decide by.

Invariant: every method of the cluster process has one row here, and where it is carried out is read
from the row; the page docs/states.md is printed from the same rows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from conclave.cluster.configuration import MemberState, Standing
from conclave.service.wire import Operation


class State(enum.Enum):
    """How a member stands when a call comes; the value is its name on the page."""

    ALONE = "alone"
    PRIMARY = "primary"
    CLOSED = "closed primary"
    READ_WRITE = "Read-Write"
    READ_ONLY = "Read-Only"
    JOINING = "joining"
    REMOVED = "removed"


class Kind(enum.Enum):
    """What a call needs."""

    LOCAL = "local"
    """This member alone: it reads its copy, or is about itself."""
    CHANGE = "change"
    """The primary."""
    LOGIN = "login"
    """The primary; without it, this member's share of the failures that are left."""


class Course(enum.Enum):
    """What becomes of a call."""

    HERE = "here"
    FORWARD = "on the primary"
    BY_SHARE = "here, within its share"
    REFUSE = "refused"


COURSES: Final[dict[Kind, dict[State, Course]]] = {
    Kind.LOCAL: dict.fromkeys(State, Course.HERE),
    Kind.CHANGE: {
        State.ALONE: Course.HERE,
        State.PRIMARY: Course.HERE,
        State.CLOSED: Course.REFUSE,
        State.READ_WRITE: Course.FORWARD,
        State.READ_ONLY: Course.REFUSE,
        State.JOINING: Course.REFUSE,
        State.REMOVED: Course.REFUSE,
    },
    Kind.LOGIN: {
        State.ALONE: Course.HERE,
        State.PRIMARY: Course.HERE,
        State.CLOSED: Course.HERE,
        State.READ_WRITE: Course.FORWARD,
        State.READ_ONLY: Course.BY_SHARE,
        State.JOINING: Course.REFUSE,
        State.REMOVED: Course.REFUSE,
    },
}

MEANINGS: Final[dict[State, str]] = {
    State.ALONE: "The appliance is in no cluster, or was never authorized in it.",
    State.PRIMARY: "It orders all writes. While it opens, or hands over, a write waits up to 10 s.",
    State.CLOSED: "A primary that sees no other member, with `cluster.strict_primary`.",
    State.READ_WRITE: "It has a lease of the primary, which waits for it in every commit.",
    State.READ_ONLY: "Its lease is over: it has lost the primary, or has not caught up with it.",
    State.JOINING: "Its first copy of the store is under way.",
    State.REMOVED: "It left or was deleted: its store is closed. A deleted one is to be reset.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A method of the cluster process."""

    method: str
    kind: Kind
    what: str


METHOD_ROWS: Final[tuple[Row, ...]] = (
    Row("status", Kind.LOCAL, "state of the cluster service"),
    Row("create_cluster", Kind.LOCAL, "create a cluster (refused when there is one)"),
    Row("list_clusters", Kind.LOCAL, "show the cluster"),
    Row("list_members", Kind.LOCAL, "list and show members"),
    Row("list_groups", Kind.LOCAL, "list affinity groups"),
    Row("authorize", Kind.LOCAL, "authorize this member"),
    Row("join_prepare", Kind.LOCAL, "join: prove and ask (refused when there is a cluster)"),
    Row("join_commit", Kind.LOCAL, "join: copy the store"),
    Row("join_abort", Kind.LOCAL, "join: give up"),
    Row("join_progress", Kind.LOCAL, "join: progress"),
    Row("leave", Kind.LOCAL, "leave (needs a visible primary; a primary hands over first)"),
    Row("delete_member", Kind.LOCAL, "delete a member that nobody sees"),
    Row("report", Kind.LOCAL, "tell ports and whether a restart is due"),
    Row("watch", Kind.LOCAL, "wait for a change"),
    Row("worker_keys", Kind.LOCAL, "keys of the workers"),
    Row("members_state", Kind.LOCAL, "members as clients are told of them"),
    Row("promote", Kind.CHANGE, "promote a Read-Write member"),
    Row("set_group", Kind.CHANGE, "move a member to a group"),
    Row("create_keyrings", Kind.CHANGE, "create keyrings"),
    Row("delete_keyring", Kind.CHANGE, "delete a keyring"),
    Row("unlock_keyring", Kind.CHANGE, "unlock a keyring"),
    Row("list_keyrings", Kind.LOCAL, "list keyrings"),
    Row("show_keyring", Kind.LOCAL, "show a keyring"),
    Row("register_client", Kind.CHANGE, "register a client"),
    Row("revoke_client", Kind.CHANGE, "revoke a client"),
    Row("list_clients", Kind.LOCAL, "list clients"),
    Row("create_enrolment_token", Kind.CHANGE, "make an enrolment token"),
    Row("revoke_enrolment_token", Kind.CHANGE, "revoke an enrolment token"),
    Row("list_enrolment_tokens", Kind.LOCAL, "list enrolment tokens"),
    Row("is_customer", Kind.LOCAL, "look for a monitor user among clients and enrolment tokens"),
    Row("check_enrolment", Kind.LOCAL, "look at an enrolment token before it is spent"),
    Row("enrol_client", Kind.CHANGE, "register a client with an enrolment token"),
    Row("check_renewal", Kind.LOCAL, "look for a key before its certificate is renewed"),
    Row("renew_client", Kind.CHANGE, "renew a client's certificate"),
    Row("assign_keyrings", Kind.CHANGE, "assign keyrings to a client"),
    Row("take_keyring", Kind.CHANGE, "take a keyring away from a client"),
    Row("assigned_keyrings", Kind.LOCAL, "list a client's keyrings"),
    Row("assignment_mode", Kind.LOCAL, "show whether keyrings are assigned"),
    Row("set_assignment_mode", Kind.CHANGE, "open all keyrings to all clients, or assign them"),
    Row("put_users", Kind.CHANGE, "change users and roles"),
    Row("list_users", Kind.LOCAL, "list users"),
    Row("login", Kind.LOGIN, "log in to a keyring"),
    Row("logout", Kind.LOCAL, "log out (the other members are told)"),
    Row(
        "context_login",
        Kind.LOCAL,
        "log in for one use of a key (the password is checked as a login's)",
    ),
    Row("spend_context", Kind.LOCAL, "take the proof of such a login, at the member that gave it"),
    Row("change_password", Kind.CHANGE, "change a keyring's password"),
    Row("initialize_krco", Kind.CHANGE, "initialise the KRCO"),
    Row("initialize_token", Kind.CHANGE, "initialise a token anew"),
    Row("write_objects", Kind.CHANGE, "create, change and destroy token objects"),
    Row("lookup_write", Kind.LOCAL, "find the record of an earlier write"),
)

OPERATION_KINDS: Final[dict[Operation, tuple[Kind, str]]] = {
    Operation.HELLO: (Kind.LOCAL, "connecting"),
    Operation.PING: (Kind.LOCAL, "connecting"),
    Operation.LIST_TOKENS: (Kind.LOCAL, "C_GetSlotList"),
    Operation.TOKEN_INFO: (Kind.LOCAL, "C_GetTokenInfo"),
    Operation.MECHANISMS: (Kind.LOCAL, "C_GetMechanismList, C_GetMechanismInfo"),
    Operation.MEMBERS: (Kind.LOCAL, "learning the members"),
    Operation.LOGIN: (Kind.LOGIN, "C_Login"),
    Operation.LOGOUT: (Kind.LOCAL, "C_Logout"),
    Operation.SET_PIN: (Kind.CHANGE, "C_SetPIN"),
    Operation.INIT_PIN: (Kind.CHANGE, "C_InitPIN"),
    Operation.INIT_TOKEN: (Kind.CHANGE, "C_InitToken"),
    Operation.FIND: (Kind.LOCAL, "C_FindObjects"),
    Operation.GET_ATTRIBUTES: (Kind.LOCAL, "C_GetAttributeValue"),
    Operation.SET_ATTRIBUTES: (Kind.CHANGE, "C_SetAttributeValue"),
    Operation.CREATE_OBJECT: (Kind.CHANGE, "C_CreateObject"),
    Operation.COPY_OBJECT: (Kind.CHANGE, "C_CopyObject"),
    Operation.DESTROY_OBJECT: (Kind.CHANGE, "C_DestroyObject"),
    Operation.OBJECT_SIZE: (Kind.LOCAL, "C_GetObjectSize"),
    Operation.KEY_INFO: (Kind.LOCAL, "beginning to use a key"),
    Operation.GENERATE_KEY: (Kind.CHANGE, "C_GenerateKey"),
    Operation.GENERATE_KEY_PAIR: (Kind.CHANGE, "C_GenerateKeyPair"),
    Operation.WRAP_KEY: (Kind.LOCAL, "C_WrapKey"),
    Operation.UNWRAP_KEY: (Kind.CHANGE, "C_UnwrapKey"),
    Operation.DERIVE_KEY: (Kind.CHANGE, "C_DeriveKey"),
    Operation.SIGN_RECOVER: (Kind.LOCAL, "C_SignRecover"),
    Operation.VERIFY_RECOVER: (Kind.LOCAL, "C_VerifyRecover"),
    Operation.CONTEXT_LOGIN: (Kind.LOGIN, "C_Login for one use of a key"),
    Operation.USE_IN_CONTEXT: (Kind.LOCAL, "C_Sign, C_SignRecover and C_Decrypt after it"),
    Operation.SIGN: (Kind.LOCAL, "C_Sign"),
    Operation.VERIFY: (Kind.LOCAL, "C_Verify"),
    Operation.ENCRYPT: (Kind.LOCAL, "C_Encrypt"),
    Operation.DECRYPT: (Kind.LOCAL, "C_Decrypt"),
    Operation.ENCAPSULATE_KEY: (Kind.CHANGE, "C_EncapsulateKey"),
    Operation.DECAPSULATE_KEY: (Kind.CHANGE, "C_DecapsulateKey"),
    Operation.RANDOM: (Kind.LOCAL, "C_GenerateRandom"),
    Operation.FORWARD: (Kind.LOCAL, "a call of another member for its client"),
}

FORWARDED_METHODS: Final = frozenset(row.method for row in METHOD_ROWS if row.kind != Kind.LOCAL)
"""Methods that run on the primary, wherever they were called."""

TAKEN_METHODS: Final = FORWARDED_METHODS | {"delete_member"}
"""Methods that a primary takes of another member, which may have reasons of its own to ask."""


def state_of(state: MemberState | None, *, lease_valid: bool, closed: bool) -> State:
    """Return how a member stands; `closed` tells of a primary that stopped writing on purpose."""
    if state is None:
        return State.ALONE
    if state.standing in (Standing.LEFT, Standing.DELETED):
        return State.REMOVED
    if state.is_primary:
        return State.CLOSED if closed else State.PRIMARY
    if lease_valid:
        return State.READ_WRITE
    return State.JOINING if state.standing is Standing.JOINING else State.READ_ONLY


def course_of(method: str, state: State) -> Course:
    """Return what becomes of a call."""
    return COURSES[_KINDS[method]][state]


_KINDS: Final = {row.method: row.kind for row in METHOD_ROWS}
