"""New keys of the cluster's own when a member is deleted (rule C3).

Invariant: the keys in the store name every deleted member that never knew them.  Who is deleted
stands in the configuration, so whether new keys are due is seen from what is stored alone: by the
transaction that takes the member off the list, or, if that one could not make them, by whoever is
primary next.  A deleted member keeps the CA key it knew, and gains nothing by it: peers are
accepted by their listed keys, and who learns of the CA from now on learns of another one.

The former versions stay trusted, since nothing renews a client's certificate but its registration
anew, and a member may have been off for several deletions.  Each version certifies the key of the
next one; members show those cross-certificates, so who knows an old version only can follow.
Some former ticket keys open tickets: who was idle shows its own once, its renewal is of the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509

from conclave.cluster.ca import CertificateAuthority, der, key_sha256, spki_der
from conclave.cluster.configuration import Configuration
from conclave.cluster.context import Authorized, Context, require_cluster
from conclave.cluster.master_keys import (
    ClusterKeys,
    new_ticket_key,
    open_cluster_keys,
    seal_cluster_keys,
)
from conclave.ids import MemberId
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import ClusterStateRow

KEPT_TICKET_KEYS: Final = 8
"""Versions of the ticket key that open tickets; a former one is good for one renewal each."""
KEPT_AUTHORITIES: Final = 64
"""Versions of the CA that are trusted, the newest one included, so a client's registration lasts
for one deletion less.  OpenSSL follows 100; each adds about half a kilobyte to a handshake."""


def is_due(keys: ClusterKeys, configuration: Configuration) -> bool:
    """Tell whether a deleted member knows these keys."""
    return not configuration.deleted() <= frozenset(keys.made_without)


def rotated(
    keys: ClusterKeys, authority: CertificateAuthority, configuration: Configuration, now: datetime
) -> tuple[ClusterKeys, CertificateAuthority]:
    """Return new keys and the next version of the CA, which the former one certifies."""
    successor = authority.successor(now)
    newest = keys.ticket_keys[0].version
    crosses = (der(authority.certify_successor(successor, now)), *keys.cross_certificates)
    former = (der(authority.certificate), *keys.former_authorities)
    made = ClusterKeys(
        ca_key_pkcs8=successor.key_pkcs8(),
        ticket_keys=[new_ticket_key(newest + 1), *keys.ticket_keys][:KEPT_TICKET_KEYS],
        former_authorities=former[: KEPT_AUTHORITIES - 1],
        cross_certificates=crosses[: KEPT_AUTHORITIES - 1],
        made_without=tuple(sorted(configuration.deleted())),
    )
    return made, successor


def rotate_keys(context: Context, writer: ClusterWriter, configuration: Configuration) -> None:
    """Put new keys into the store if that is due; nothing while the member is not authorized."""
    authorized, row = context.authorized, writer.cluster_state()
    if authorized is None or row is None:
        return
    keys, authority = open_authority(row, authorized)
    certificate = row.ca_certificate_der
    if is_due(keys, configuration):
        keys, authority = rotated(keys, authority, configuration, context.clock.now())
        certificate = der(authority.certificate)
        _certify_again(writer, authority, context.clock.now())
    else:
        # Who joined again after a deletion knows the keys: another deletion makes new ones.
        without = tuple(sorted(configuration.deleted()))
        if without == keys.made_without:
            return
        keys = msgspec.structs.replace(keys, made_without=without)
    sealed = seal_cluster_keys(keys, authorized.master, authorized.cluster_id)
    writer.put_cluster_state(replace(row, sealed_keys=sealed, ca_certificate_der=certificate))


def behind(
    issuers: Mapping[MemberId, tuple[bytes, ...] | None], newest: bytes
) -> tuple[MemberId, ...]:
    """Return which members may still show clients a certificate of another CA than the newest.

    `issuers` are key identifiers of the CAs whose certificates each one's workers show.
    """
    return tuple(
        member_id
        for member_id, shown in issuers.items()
        if shown is None or not set(shown) <= {newest}
    )


def _certify_again(writer: ClusterWriter, authority: CertificateAuthority, now: datetime) -> None:
    """Certify the members' listed keys by a new CA in the transaction that makes it.

    So every copy of the store that has the CA has each member's certificate of it, too.
    """
    for row in writer.members():
        if not row.certificate_der:
            continue
        former = x509.load_der_x509_certificate(row.certificate_der)
        # One that was left of another key is not renewed: its member asks for one of its own.
        if key_sha256(spki_der(former.public_key())) == row.key_sha256:
            renewed = der(authority.certify_again(former, now))
            writer.put_member(replace(row, certificate_der=renewed))


def open_authority(
    row: ClusterStateRow, authorized: Authorized
) -> tuple[ClusterKeys, CertificateAuthority]:
    """Open the keys that the store has now, which may be newer than those in memory."""
    keys = open_cluster_keys(row.sealed_keys, authorized.master, row.cluster_id)
    return keys, CertificateAuthority.load(keys.ca_key_pkcs8, row.ca_certificate_der)


def newest_authority(reader: ClusterReader, authorized: Authorized) -> CertificateAuthority:
    """Return the CA that the store has now; raise NotFound without a cluster."""
    row = require_cluster(reader)
    if row.ca_certificate_der == der(authorized.authority.certificate):
        return authorized.authority
    return open_authority(row, authorized)[1]
