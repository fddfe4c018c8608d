"""What proves a user besides the password: SSH keys for LunaSH, certificates for REST."""

from __future__ import annotations

from typing import Annotated

from cryptography import x509
from msgspec import Meta

from conclave import faults
from conclave.appliance.public_keys import (
    MAX_KEY_CHARACTERS,
    fingerprint_of,
    parse_certificate,
    parse_public_key,
)
from conclave.errors import NotFound
from conclave.lunash.render.user import key_list
from conclave.operations.commands import PATH, Command, Option, ShellCall
from conclave.operations.fields import CertificatePem
from conclave.operations.model import (
    DONE,
    EVERYBODY,
    Arguments,
    Call,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.refusals import USERS_CHANGE
from conclave.operations.users import USER, USERS, check_own_or_admin, check_user

KEYS = f"{USER}/publicKeys"
CERTIFICATES = f"{USER}/certificates"
_CERTIFICATES_ONLY = "REST: a certificate logs a user in over REST alone."
_CHECKS = (check_own_or_admin, check_user)
_MISSING = (faults.USER_NOT_FOUND,)
_ADDING = (faults.USER_NOT_FOUND, faults.KEY_EXISTS, faults.KEY_LIMIT, *USERS_CHANGE)
_REMOVING = (faults.USER_NOT_FOUND, faults.KEY_NOT_FOUND, *USERS_CHANGE)


class KeyView(Result, frozen=True):
    """One SSH key; `id` stands in its path."""

    id: str
    kind: str
    fingerprint: str
    comment: str
    url: str


class KeyList(Result, frozen=True):
    """A user's SSH keys."""

    public_keys: list[KeyView]


class AddKey(Arguments, frozen=True):
    """One line as in `id_ed25519.pub`."""

    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARACTERS)]


class CertificateView(Result, frozen=True):
    """One certificate; `id` is SHA-256 of its DER."""

    id: str
    subject: str
    not_after: str
    url: str


class CertificateList(Result, frozen=True):
    """A user's certificates."""

    certificates: list[CertificateView]


class AddCertificate(Arguments, frozen=True):
    """A certificate in PEM; line ends may be the two characters backslash and n."""

    certificate: CertificatePem


async def own_key_id(shell: ShellCall, named: str) -> str:
    """Return the id of one of the caller's keys; a name that fits none is returned as it is."""
    keys = shell.appliance.public_keys.of(shell.caller.user.user_id)
    for number, key in enumerate(keys, start=1):
        if named in (str(number), key.fingerprint, key.comment):
            return key_id(key.fingerprint)
    return key_id(named)


def key_id(fingerprint: str) -> str:
    """Return a fingerprint as it stands in a path, where `/` would part it."""
    return fingerprint.removeprefix("SHA256:").replace("/", "_").replace("+", "-")


@operation(
    "user.keys",
    "GET",
    KEYS,
    summary="List a user's SSH keys; who is no administrator sees the own ones only.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=KeyList,
    checks=_CHECKS,
    faults=_MISSING,
    paged=True,
    commands=(
        Command(
            words="my public-key list",
            summary="List the SSH keys that open LunaSH to you.",
            render=key_list,
        ),
    ),
)
async def list_keys(call: Call, _arguments: NoArguments) -> Reply:
    """List a user's SSH keys."""
    user_id = call.path["userid"]
    return Reply(
        body=KeyList(
            public_keys=[
                KeyView(
                    id=key_id(key.fingerprint),
                    kind=key.kind,
                    fingerprint=key.fingerprint,
                    comment=key.comment,
                    url=f"{USERS}/{user_id}/publicKeys/{key_id(key.fingerprint)}",
                )
                for key in call.appliance.public_keys.of(user_id)
            ]
        )
    )


@operation(
    "user.keys.add",
    "POST",
    KEYS,
    summary="Add an SSH key that opens LunaSH to a user.",
    cluster_methods=("put_users",),
    arguments=AddKey,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_ADDING,
)
async def add_key(call: Call, arguments: AddKey) -> Reply:
    """Add an SSH key."""
    user_id = call.path["userid"]
    key = parse_public_key(arguments.key)
    await call.appliance.public_keys.add(user_id, key)
    return Reply(location=f"{USERS}/{user_id}/publicKeys/{key_id(key.fingerprint)}")


@operation(
    "user.keys.delete",
    "DELETE",
    f"{KEYS}/{{keyid}}",
    summary="Remove an SSH key and end the user's logins.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_REMOVING,
    commands=(
        Command(
            words="my public-key delete",
            summary="Remove one of your SSH keys, which ends your sessions.",
            options=(
                Option(
                    name="key",
                    summary="fingerprint of the key, its comment, or its number in the list",
                    value="key",
                    target=f"{PATH}keyid",
                    required=True,
                    positional=True,
                    resolve=own_key_id,
                ),
            ),
            success="'my public-key delete' successful.",
        ),
    ),
)
async def delete_key(call: Call, _arguments: NoArguments) -> Reply:
    """Remove an SSH key."""
    user_id, wanted = call.path["userid"], call.path["keyid"]
    for key in call.appliance.public_keys.of(user_id):
        if key_id(key.fingerprint) == wanted:
            await call.appliance.public_keys.delete(user_id, key.fingerprint)
            return DONE
    message = f"User {user_id} has no key {wanted[:80]!r}."
    raise NotFound(faults.KEY_NOT_FOUND, message)


@operation(
    "user.keys.clear",
    "DELETE",
    KEYS,
    summary="Remove all SSH keys of a user and end the user's logins.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=(faults.USER_NOT_FOUND, *USERS_CHANGE),
    commands=(
        Command(
            words="my public-key clear",
            summary="Remove all your SSH keys, which ends your sessions.",
            proceed="Type 'proceed' to remove all your keys, or 'quit' to quit now.",
            success="'my public-key clear' successful.",
        ),
    ),
)
async def clear_keys(call: Call, _arguments: NoArguments) -> Reply:
    """Remove all SSH keys."""
    await call.appliance.public_keys.clear(call.path["userid"])
    return DONE


@operation(
    "user.certificates",
    "GET",
    CERTIFICATES,
    summary="List a user's certificates; who is no administrator sees the own ones only.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=CertificateList,
    checks=_CHECKS,
    faults=_MISSING,
    paged=True,
    only=_CERTIFICATES_ONLY,
)
async def list_certificates(call: Call, _arguments: NoArguments) -> Reply:
    """List a user's certificates."""
    user_id = call.path["userid"]
    found = call.appliance.public_keys.certificates_of(user_id)
    return Reply(body=CertificateList(certificates=[_certificate(user_id, der) for der in found]))


def _certificate(user_id: str, der: bytes) -> CertificateView:
    certificate, name = x509.load_der_x509_certificate(der), fingerprint_of(der)
    return CertificateView(
        id=name,
        subject=certificate.subject.rfc4514_string(),
        not_after=f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        url=f"{USERS}/{user_id}/certificates/{name}",
    )


async def _add_certificate(call: Call, arguments: AddCertificate) -> Reply:
    user_id = call.path["userid"]
    certificate = parse_certificate(arguments.certificate)
    name = await call.appliance.public_keys.add_certificate(user_id, certificate)
    return Reply(location=f"{USERS}/{user_id}/certificates/{name}")


@operation(
    "user.certificates.add",
    "POST",
    CERTIFICATES,
    summary="Add a certificate that a user can log in with, by challenge.",
    cluster_methods=("put_users",),
    arguments=AddCertificate,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_ADDING,
    only=_CERTIFICATES_ONLY,
)
async def add_certificate(call: Call, arguments: AddCertificate) -> Reply:
    """Add a certificate."""
    return await _add_certificate(call, arguments)


@operation(
    "user.certificate.set",
    "POST",
    f"{USER}/certificate",
    summary="Add a certificate that a user can log in with, in the form of older callers.",
    cluster_methods=("put_users",),
    arguments=AddCertificate,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_ADDING,
    only=_CERTIFICATES_ONLY,
)
async def set_certificate(call: Call, arguments: AddCertificate) -> Reply:
    """Add a certificate, at the path that older callers use."""
    return await _add_certificate(call, arguments)


@operation(
    "user.certificates.delete",
    "DELETE",
    f"{CERTIFICATES}/{{certificateid}}",
    summary="Remove a certificate and end the user's logins.",
    cluster_methods=("put_users",),
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_REMOVING,
    only=_CERTIFICATES_ONLY,
)
async def delete_certificate(call: Call, _arguments: NoArguments) -> Reply:
    """Remove a certificate."""
    path = call.path
    await call.appliance.public_keys.delete_certificate(path["userid"], path["certificateid"])
    return DONE
