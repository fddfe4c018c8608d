"""Name the identifiers, counters and instants that must never be mixed up."""

from __future__ import annotations

from typing import NewType

ClusterId = NewType("ClusterId", str)
"""Lower-case UUID of a cluster."""
MemberId = NewType("MemberId", str)
"""Lower-case UUID of a cluster member."""
KeyringId = NewType("KeyringId", bytes)
"""The 16 bytes of a keyring's UUID."""
ObjectId = NewType("ObjectId", bytes)
"""16 random bytes that name an object inside its keyring."""
ClientId = NewType("ClientId", bytes)
"""The 16 bytes of a registered client's UUID."""
EnrolmentTokenId = NewType("EnrolmentTokenId", bytes)
"""16 random bytes that name an enrolment token."""
LoginId = NewType("LoginId", bytes)
"""16 random bytes, new at each C_Login, unchanged by ticket renewal, denied at C_Logout."""
ProcessId = NewType("ProcessId", bytes)
"""16 random bytes that a client process chooses for its lifetime."""
IdempotencyKey = NewType("IdempotencyKey", bytes)
"""16 random bytes that a caller chooses for one write, kept over its retries."""
AuthorizationVersion = NewType("AuthorizationVersion", bytes)
"""16 random bytes, new at every change of a keyring's credentials and at restore."""
KeyGeneration = NewType("KeyGeneration", int)
"""Number of the keyring key under which a row was written; 0 means none was made yet."""
RowRevision = NewType("RowRevision", int)
"""Cluster-wide number of a change, monotone, never restored."""
SlotNumber = NewType("SlotNumber", int)
"""Stable number of a keyring's slot, never used again."""
ClusterTimeMs = NewType("ClusterTimeMs", int)
"""Milliseconds since 1970 in cluster time: boot-time clock plus the cluster's offset."""
