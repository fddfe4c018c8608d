"""Versions of a cluster's CA, as deletions of members make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conclave.cluster.ca import CertificateAuthority
from conclave.cluster.configuration import Configuration, Standing
from conclave.cluster.epochs import Epoch
from conclave.cluster.master_keys import ClusterKeys, new_ticket_key
from conclave.cluster.rotation import rotated
from conclave.ids import ClusterId, MemberId
from tests.support.link_bench import FIRST

NOW = datetime(2040, 5, 6, 7, 8, 9, tzinfo=UTC)


def without(*deleted: MemberId) -> Configuration:
    """Return a configuration after deletions."""
    former = tuple((member_id, Standing.DELETED) for member_id in deleted)
    return Configuration(Epoch(1, FIRST), FIRST, (), former)


def versions(count: int, first: datetime = NOW) -> tuple[ClusterKeys, list[CertificateAuthority]]:
    """Return the keys after so many deletions less one, a day each, and the versions of the CA."""
    authorities = [CertificateAuthority.create(ClusterId("c" * 36), "lab", first)]
    keys = ClusterKeys(ca_key_pkcs8=authorities[0].key_pkcs8(), ticket_keys=[new_ticket_key(1)])
    for number in range(1, count):
        now = first + timedelta(days=number)
        configuration = without(MemberId(f"gone-{number}"))
        keys, made = rotated(keys, authorities[-1], configuration, now)
        authorities.append(made)
    return keys, authorities
