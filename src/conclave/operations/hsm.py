"""The HSM: show, initialise, log in and out, policies, the SO's password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from conclave import faults
from conclave.errors import BadInput, NotAllowed, NotFound
from conclave.hsm.rules import DEFAULT_DOMAIN
from conclave.hsm.views import PolicyInfo
from conclave.lunash.render.hsm import login_caution
from conclave.operations.commands import (
    Command,
    Kind,
    Option,
    ShellCall,
    credential,
    new_credential,
)
from conclave.operations.fields import (
    Domain,
    HsmLabel,
    HsmPassword,
    Ped,
    password_bytes,
    refuse_ped,
)
from conclave.operations.login_state import LoginState, require_so
from conclave.operations.model import (
    ADMINS,
    DONE,
    OPERATORS,
    READERS,
    Arguments,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import CREDENTIAL, HSM_CHANGE
from conclave.operations.reveals import Reveals

HSM = "/api/lunasa/hsms/{hsmid}"
INIT_WARNING = """CAUTION:  Are you sure you wish to initialize this HSM?
          All partitions and everything in them will be erased.

          Type 'proceed' to initialize the HSM, or 'quit'
          to quit now."""


class Reference(Result, frozen=True):
    """One thing in a list, with its path."""

    id: str
    url: str


class Hsms(Result, frozen=True):
    """The one HSM of the appliance."""

    hsms: list[Reference]


class HsmView(Result, frozen=True):
    """The HSM."""

    id: str
    serial_number: str
    label: str
    initialized: bool
    zeroized: bool
    so_logins_left: int
    storage_space: dict[str, int]
    partitions: str
    policies: str
    roles: str
    firmware: str
    firmware_version: str
    licenses: str
    metrics: str


class PolicyView(Result, frozen=True):
    """One policy of the HSM or of a partition."""

    id: str
    name: str
    value: int
    minimum: int
    maximum: int
    destructive: bool
    url: str


class Policies(Result, frozen=True):
    """Policies in the order of their numbers."""

    policies: list[PolicyView]


class InitializeHsm(Arguments, frozen=True):
    """What an HSM is initialised with."""

    label: HsmLabel
    password: HsmPassword
    domain: Domain | UnsetType = UNSET
    default_domain: bool = False
    ped: Ped = "0"


class LogIn(Arguments, frozen=True):
    """A password of the HSM SO."""

    password: HsmPassword
    role: Literal["so"] = "so"
    ped: Ped = "0"


class SetPolicy(Arguments, frozen=True):
    """The new value of a policy."""

    value: Annotated[int, Meta(ge=0, le=2**31 - 1)]


def check_hsm(call: Call, _arguments: object) -> None:
    """The HSM id must be this HSM's serial number."""
    serial = call.appliance.hsm.info().serial
    if call.path["hsmid"] != serial:
        message = f"There is no HSM {call.path['hsmid'][:64]!r}; this appliance has {serial}."
        raise NotFound(faults.INVALID_HSM, message)


def check_so_login(call: Call, _arguments: object) -> None:
    """The HSM SO must be logged in to the caller's private session."""
    require_so(call.session, call.appliance.hsm)


def private_session(call: Call) -> LoginState:
    """Return the private session that shall hold a login, or refuse."""
    if call.session is None:
        message = (
            "A login to the HSM or to a partition belongs to a private session:"
            " open one with POST /auth/session and send its cookie."
        )
        raise NotAllowed(faults.HSM_OPERATION, message)
    return call.session


def check_private_session(call: Call, _arguments: object) -> None:
    """The caller must have opened a private session."""
    private_session(call)


def chosen_domain(domain: str | UnsetType, default_domain: bool) -> bytes:
    """Return the cloning domain, given or default, never both."""
    if default_domain == (not isinstance(domain, UnsetType)):
        message = "Give either domain or defaultDomain true, and not both."
        raise BadInput(faults.BAD_REQUEST, message)
    return DEFAULT_DOMAIN if isinstance(domain, UnsetType) else domain.encode()


def policy_view(policy: PolicyInfo, url: str) -> PolicyView:
    """Return a policy as answers show it."""
    return PolicyView(
        id=str(policy.number),
        name=policy.name,
        value=policy.value,
        minimum=policy.lowest,
        maximum=policy.highest,
        destructive=policy.destructive,
        url=f"{url}/{policy.number}",
    )


def find_policy(policies: tuple[PolicyInfo, ...], policy_id: str) -> PolicyInfo:
    """Return the policy of that number; raise NotFound."""
    for policy in policies:
        if str(policy.number) == policy_id:
            return policy
    known = ", ".join(str(policy.number) for policy in policies)
    message = f"There is no policy {policy_id[:16]!r} here; there are {known}."
    raise NotFound(faults.INVALID_POLICY, message)


@operation(
    "hsm.list",
    "GET",
    "/api/lunasa/hsms",
    summary="List the appliance's HSMs; there is exactly one.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Hsms,
    paged=True,
    only="REST: there is one HSM, which LunaSH's commands mean without a name.",
)
async def list_hsms(call: Call, _arguments: NoArguments) -> Reply:
    """List the HSM."""
    serial = call.appliance.hsm.info().serial
    return Reply(body=Hsms(hsms=[Reference(id=serial, url=f"/api/lunasa/hsms/{serial}")]))


@operation(
    "hsm.show",
    "GET",
    HSM,
    summary="Show the HSM: state, storage, how many SO logins are left.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=HsmView,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
)
async def show_hsm(call: Call, _arguments: NoArguments) -> Reply:
    """Show the HSM."""
    info = call.appliance.hsm.info()
    url = f"/api/lunasa/hsms/{info.serial}"
    return Reply(
        body=HsmView(
            id=info.serial,
            serial_number=info.serial,
            label=info.label,
            initialized=info.initialized,
            zeroized=info.zeroized,
            so_logins_left=info.so_attempts_left,
            storage_space={
                "total": info.storage_total,
                "used": info.storage_used,
                "free": info.storage_total - info.storage_used,
            },
            partitions=f"{url}/partitions",
            policies=f"{url}/policies",
            roles=f"{url}/roles",
            firmware=f"{url}/firmware",
            firmware_version=call.appliance.config.emulated.firmware,
            licenses=f"{url}/licenses",
            metrics=f"{url}/metrics",
        )
    )


def check_initialization(call: Call, arguments: InitializeHsm) -> None:
    """Label, password and the one cloning domain must keep their rules, and no PED is asked for."""
    refuse_ped(arguments.ped)
    call.appliance.hsm.check_initialization(
        arguments.label,
        password_bytes("password", arguments.password),
        chosen_domain(arguments.domain, arguments.default_domain),
    )


def _destroys(call: Call, _arguments: InitializeHsm) -> bool:
    return call.appliance.hsm.info().initialized


def check_so_of_initialized(call: Call, _arguments: object) -> None:
    """An initialised HSM asks for its SO's login; a new or zeroized one has none."""
    if call.appliance.hsm.info().initialized:
        require_so(call.session, call.appliance.hsm)


@operation(
    "hsm.initialize",
    "PUT",
    HSM,
    summary="Initialise the HSM; an initialised one, for its SO, loses all, so that waits.",
    chapter="2",
    arguments=InitializeHsm,
    roles=ADMINS,
    checks=(check_hsm, check_initialization, check_so_of_initialized),
    waits_when=_destroys,
    faults=(*HSM_CHANGE, faults.FUNCTION_NOT_SUPPORTED, faults.SO_NOT_LOGGED_IN),
    commands=(
        Command(
            words="hsm init",
            summary="Initialise the HSM: label, SO password, cloning domain.",
            chapter="2",
            options=(
                Option(
                    name="label",
                    short="l",
                    summary="label of the HSM",
                    target="label",
                    required=True,
                    prompt="Please enter a label for the HSM:",
                ),
                new_credential(
                    "password",
                    short="p",
                    summary="new password of the HSM SO",
                    prompt="Please enter a password for the HSM Administrator:",
                    target="password",
                ),
                Option(
                    name="domain",
                    short="do",
                    summary="cloning domain",
                    kind=Kind.CREDENTIAL,
                    target="domain",
                    required=True,
                    prompt="Please enter a cloning domain to use for initializing this HSM:",
                    confirm="Please re-enter cloning domain to confirm:",
                    unless=("defaultdomain",),
                ),
                Option(
                    name="defaultdomain",
                    short="de",
                    summary="use the default cloning domain, which everybody knows",
                    kind=Kind.FLAG,
                    target="defaultDomain",
                ),
            ),
            proceed=INIT_WARNING,
            success="'hsm init' successful.",
        ),
    ),
)
async def initialize_hsm(call: Call, arguments: InitializeHsm) -> Reply:
    """Initialise the HSM with label, SO password and cloning domain."""
    hsm = call.appliance.hsm
    await hsm.initialize(
        arguments.label,
        password_bytes("password", arguments.password),
        chosen_domain(arguments.domain, arguments.default_domain),
        confirmed=call.confirmed,
        source=call.source,
    )
    return Reply(location=f"/api/lunasa/hsms/{hsm.info().serial}")


def attempts_caution(shell: ShellCall) -> Sequence[str]:
    """Warn before a password that may zeroize the HSM."""
    info = shell.appliance.hsm.info()
    if shell.appliance.config.so_lockout != "zeroize" or not info.initialized:
        return ()
    return login_caution(info.so_attempts_left)


@operation(
    "hsm.login",
    "POST",
    f"{HSM}/login",
    summary="Log the HSM SO in to the private session; three wrong passwords zeroize.",
    chapter="2",
    arguments=LogIn,
    roles=OPERATORS,
    checks=(check_hsm, check_private_session),
    faults=(*HSM_CHANGE, *CREDENTIAL),
    commands=(
        Command(
            words="hsm login",
            summary="Log the HSM SO in to this session; three wrong passwords zeroize the HSM.",
            chapter="2",
            options=(
                credential(
                    "password",
                    short="p",
                    summary="password of the HSM SO",
                    prompt="Please enter the HSM Administrators' password:",
                    target="password",
                ),
            ),
            caution=attempts_caution,
            success="'hsm login' successful.",
        ),
    ),
)
async def log_in_so(call: Call, arguments: LogIn) -> Reply:
    """Log the HSM SO in."""
    refuse_ped(arguments.ped)
    session = private_session(call)
    password = password_bytes("password", arguments.password)
    session.so = await call.appliance.hsm.verify_so(password, source=call.source)
    return Reply(location=f"/api/lunasa/hsms/{call.path['hsmid']}/login/so/1")


@operation(
    "hsm.logout",
    "POST",
    f"{HSM}/logout",
    summary="Log the HSM SO out of the private session.",
    arguments=NoArguments,
    roles=OPERATORS,
    checks=(check_hsm, check_private_session),
    faults=HSM_CHANGE,
    commands=(
        Command(
            words="hsm logout",
            summary="Log the HSM SO out of this session.",
            success="'hsm logout' successful.",
        ),
    ),
)
async def log_out_so(call: Call, _arguments: NoArguments) -> Reply:
    """Log the HSM SO out."""
    private_session(call).so = None
    return Reply(location=f"/api/lunasa/hsms/{call.path['hsmid']}")


@operation(
    "hsm.policies",
    "GET",
    f"{HSM}/policies",
    summary="List the HSM's policies.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Policies,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    paged=True,
)
async def list_policies(call: Call, _arguments: NoArguments) -> Reply:
    """List the HSM's policies."""
    url = f"/api/lunasa/hsms/{call.path['hsmid']}/policies"
    policies = call.appliance.hsm.policies()
    return Reply(body=Policies(policies=[policy_view(policy, url) for policy in policies]))


@operation(
    "hsm.policy",
    "GET",
    f"{HSM}/policies/{{policyid}}",
    summary="Show one policy of the HSM.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=PolicyView,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM, faults.INVALID_POLICY),
    only="REST: 'hsm showPolicies' shows all of them.",
)
async def show_policy(call: Call, _arguments: NoArguments) -> Reply:
    """Show one policy of the HSM."""
    url = f"/api/lunasa/hsms/{call.path['hsmid']}/policies"
    policy = find_policy(call.appliance.hsm.policies(), call.path["policyid"])
    return Reply(body=policy_view(policy, url))


def check_policy(call: Call, arguments: SetPolicy) -> None:
    """The policy must exist, and the value must lie in its range."""
    policy = find_policy(call.appliance.hsm.policies(), call.path["policyid"])
    check_policy_value(policy, arguments.value)


def check_policy_value(policy: PolicyInfo, value: int) -> None:
    """Refuse a value outside a policy's range."""
    if not policy.lowest <= value <= policy.highest:
        message = (
            f"value of policy {policy.number} ({policy.name}) must lie between {policy.lowest}"
            f" and {policy.highest}; it is {value}."
        )
        raise BadInput(faults.BAD_REQUEST, message)


def _policy_destroys(call: Call, _arguments: SetPolicy) -> bool:
    return find_policy(call.appliance.hsm.policies(), call.path["policyid"]).destructive


@operation(
    "hsm.policy.set",
    "PUT",
    f"{HSM}/policies/{{policyid}}",
    summary="Set a policy of the HSM; a destructive change waits.",
    chapter="2",
    arguments=SetPolicy,
    roles=OPERATORS,
    checks=(check_hsm, check_so_login, check_policy),
    waits_when=_policy_destroys,
    faults=(*HSM_CHANGE, faults.SO_NOT_LOGGED_IN, faults.INVALID_POLICY),
)
async def set_policy(call: Call, arguments: SetPolicy) -> Reply:
    """Set a policy of the HSM."""
    number = int(call.path["policyid"])
    await call.appliance.hsm.change_policy(number, arguments.value, confirmed=call.confirmed)
    return DONE
