"""What counts as one source of connections, logins and joins.

Invariant: whoever has one line to the network is one source.  A host of IPv6 picks any address of
its /64, so that limits by whole addresses would bind nobody there (RFC 6177).
"""

from __future__ import annotations

import ipaddress
from typing import Final

_HOST_BITS_PREFIX: Final = 64


def network_of(source: str) -> str:
    """Return the name of a source address: an IPv4 address itself, of IPv6 its /64.

    What is no address stays as it is.
    """
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return str(address)
    return str(ipaddress.ip_network((address, _HOST_BITS_PREFIX), strict=False))
