"""Keys derived from the SMK, and the cluster's own keys that are sealed under one of them.

Invariant: the SMK itself is not kept; what is derived lives in this process while the member is
authorized and nowhere else (rules C3 and C7).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec

from conclave import faults
from conclave.crypto.seal import KEY_BYTES, SealBroken, derive, seal, unseal
from conclave.errors import BadInput, NotAllowed
from conclave.ids import ClusterId
from conclave.service.messages import TicketKey
from conclave.service.quiet import Quiet


@dataclass(frozen=True, slots=True, repr=False)
class MasterKeys:
    """What the SMK is used for."""

    seal: bytes
    """Seals the cluster's CA key and ticket keys in the store."""
    outer: bytes
    """Outer layer of every keyring's key and of every credential."""
    public: bytes
    """Public token and session objects; the only one that workers get."""


class ClusterKeys(Quiet, frozen=True):
    """The cluster's own random keys; newest ticket key first.

    The certificates of former CAs lie beside them, so that one row of the store changes at once.
    """

    ca_key_pkcs8: bytes
    ticket_keys: list[TicketKey]
    former_authorities: tuple[bytes, ...] = ()
    """Certificates of the CA's former versions, DER, newest first."""
    cross_certificates: tuple[bytes, ...] = ()
    """Each version's key as the version before it certified it, DER, newest first."""
    made_without: tuple[str, ...] = ()
    """Ids of the deleted members that never knew these keys (rule C3)."""


def derive_master_keys(smk: bytes) -> MasterKeys:
    """Derive what the SMK is used for; raise BadInput when it has another length."""
    if len(smk) != KEY_BYTES:
        message = f"A master key has {KEY_BYTES} bytes; this one has {len(smk)}."
        raise BadInput(faults.WRONG_MASTER_KEY, message)
    return MasterKeys(
        seal=derive(smk, "conclave seal"),
        outer=derive(smk, "conclave keyring"),
        public=derive(smk, "conclave public"),
    )


def new_ticket_key(version: int) -> TicketKey:
    """Make a random ticket key."""
    return TicketKey(version=version, key=os.urandom(KEY_BYTES))


def seal_cluster_keys(keys: ClusterKeys, master: MasterKeys, cluster_id: ClusterId) -> bytes:
    """Seal the cluster's keys for its store."""
    return seal(master.seal, msgspec.msgpack.encode(keys), _context(cluster_id))


def open_cluster_keys(sealed: bytes, master: MasterKeys, cluster_id: ClusterId) -> ClusterKeys:
    """Open the cluster's keys; raise NotAllowed when the SMK is not this cluster's."""
    try:
        plain = unseal(master.seal, sealed, _context(cluster_id))
    except SealBroken as error:
        message = (
            f"The partition's master key is not that of cluster {cluster_id}:"
            " authorize with the partition that the cluster was made with."
        )
        raise NotAllowed(faults.WRONG_MASTER_KEY, message) from error
    return msgspec.msgpack.decode(plain, type=ClusterKeys)


def _context(cluster_id: ClusterId) -> bytes:
    return b"conclave cluster keys" + cluster_id.encode()
