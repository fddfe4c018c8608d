"""Set and change the passwords of HSM and partition roles, and what they guard."""

from __future__ import annotations

from hmac import compare_digest

import msgspec

from conclave import faults
from conclave.crypto.seal import KEY_BYTES
from conclave.errors import BadInput
from conclave.hsm import keys, rules
from conclave.hsm.core import HsmCore
from conclave.hsm.model import HsmState, Owner, Partition
from conclave.hsm.views import PartitionId, RoleId


async def initialize_partition(
    core: HsmCore,
    partition_id: PartitionId,
    label: str | None,
    password: bytes,
    *,
    domain: bytes,
    source: str,
) -> None:
    """Give a partition its label, its cloning domain and its PO; `label` None takes the name."""
    rules.check_initialize_partition(core.state, partition_id, label)
    rules.check_password("password", password)
    rules.check_domain(domain)
    owner = Owner(RoleId.PO, partition_id)
    salt, key = await core.password_key(password, source)
    po = keys.new_credential(core.keys, owner, salt, key)
    sealed_domain = keys.seal_domain(core.keys, domain, partition_id)

    def transition(state: HsmState) -> HsmState:
        chosen = rules.check_initialize_partition(state, partition_id, label)
        return rules.with_partition(
            state,
            partition_id,
            lambda partition: msgspec.structs.replace(
                partition, label=chosen, sealed_domain=sealed_domain, roles={RoleId.PO: po}
            ),
        )

    await core.apply(transition)


async def set_first(
    core: HsmCore, owner: Owner, password: bytes, source: str, *, again: bool
) -> None:
    """Set a role's first password; for the CO make partition key and SMK."""
    partition = rules.check_initialize_role(core.state, owner, again=again)
    rules.check_password("password", password, rules.shortest_password(partition))
    salt, key = await core.password_key(password, source)
    if owner.role is RoleId.CO:
        partition_key = keys.new_partition_key()
        credential = keys.new_credential(
            core.keys, owner, salt, key, secret=partition_key, first=True
        )
        sealed_smk = keys.new_smk(partition_key, partition.partition_id)
    else:
        credential = keys.new_credential(core.keys, owner, salt, key, first=True)
        sealed_smk = None

    def transition(state: HsmState) -> HsmState:
        rules.check_initialize_role(state, owner, again=again)
        changed = rules.with_credential(state, owner, credential)
        return changed if sealed_smk is None else rules.with_smk(changed, owner, sealed_smk)

    await core.apply(transition)


async def import_smk(
    core: HsmCore, partition: Partition, co_password: bytes, smk: bytes, source: str
) -> None:
    """Replace a partition's SMK by one that came from elsewhere; its listener is not told."""
    if len(smk) != KEY_BYTES:
        message = f"smk must have {KEY_BYTES} bytes; it has {len(smk)}."
        raise BadInput(faults.BAD_REQUEST, message)
    owner = Owner(RoleId.CO, partition.partition_id)
    proof = await core.prove(owner, co_password, source)
    sealed = keys.seal_smk(proof.secret, partition.partition_id, smk)

    def transition(state: HsmState) -> HsmState:
        rules.require_version(state, owner, proof.version)
        return rules.with_smk(state, owner, sealed)

    await core.apply(transition, tell=False)


async def change(core: HsmCore, owner: Owner, old: bytes, new: bytes, source: str) -> None:
    """Replace a password by its owner; the secret behind it stays the same."""
    rules.check_password("newPassword", new, rules.shortest_for(core.state, owner))
    if compare_digest(old, new):
        message = "newPassword must differ from the old password."
        raise BadInput(faults.BAD_REQUEST, message)
    proof = await core.prove(owner, old, source)
    salt, key = await core.password_key(new, source)
    credential = keys.new_credential(core.keys, owner, salt, key, secret=proof.secret)

    def transition(state: HsmState) -> HsmState:
        rules.require_version(state, owner, proof.version)
        return rules.with_credential(state, owner, credential)

    await core.apply(transition)
