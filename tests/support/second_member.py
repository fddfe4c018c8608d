"""A second member's worker beside a bench: its own key, certificate, page and port, the same store.

The cluster process is the bench's: what replication would bring is there at once, and what the
second cluster process would write to its page, the test writes.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from conclave.cluster.ca import CertificateAuthority, der, key_sha256, pem
from conclave.ids import KeyringId, MemberId
from conclave.service.client_gate import member_context
from conclave.service.page import SharedPage
from conclave.store import schema
from conclave.store.engine import open_writer_engine
from conclave.store.repository import ClusterWriter
from conclave.store.rows import MemberRow
from tests.support.worker_bench import WireClient, WorkerBench, listening


@dataclass
class SecondMember:
    """Enrol it, start it, kill it; `name` is its worker's among the bench's processes."""

    bench: WorkerBench
    group: str = "local"
    name: str = "worker-b"
    member_id: MemberId = field(default_factory=lambda: MemberId(str(uuid4())))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    listener: socket.socket = field(default_factory=listening)
    page: SharedPage = field(default_factory=SharedPage.create)
    certificate_pem: bytes = b""

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def enrol(self) -> None:
        """Put it, and the first member's real port, into the list of members."""
        engine = open_writer_engine(self.bench.database)
        with engine.begin() as connection:
            writer = ClusterWriter(connection)
            state = writer.cluster_state()
            assert state is not None
            keys = self.bench.cluster_keys()
            authority = CertificateAuthority.load(keys.ca_key_pkcs8, state.ca_certificate_der)
            certificate = authority.certify_member(
                self.spki, self.member_id, common_name="lnh.test", other_names=["127.0.0.1"],
                now=datetime.now(UTC),
            )  # fmt: skip
            self.certificate_pem = pem(der(certificate)).encode()
            writer.put_member(
                MemberRow(
                    member_id=self.member_id, name="member-b", address="127.0.0.1",
                    admin_port=50070, crypto_port=self.port, group=self.group,
                    key_sha256=key_sha256(self.spki), certificate_der=der(certificate),
                )
            )  # fmt: skip
            first = next(row for row in writer.members() if row.member_id != self.member_id)
            own_port = int(self.bench.listener.getsockname()[1])
            writer.put_member(replace(first, crypto_port=own_port))
            visible = (*state.visible, self.member_id)
            writer.put_cluster_state(replace(state, visible=visible))
        engine.dispose()
        self.bench.page.bump_members()

    def forget(self) -> None:
        """Take it out of the list of members."""
        engine = open_writer_engine(self.bench.database)
        with engine.begin() as connection:
            connection.execute(
                schema.members.delete().where(schema.members.c.member_id == self.member_id)
            )
        engine.dispose()
        self.bench.page.bump_members()

    def start(self) -> None:
        """Start its worker; the page says what the first member's does."""
        theirs, ours = self.bench.page, self.page
        ours.set_cluster_time_offset(theirs.cluster_time_ms() - theirs.boot_time_ms())
        ours.set_appliance_offset(theirs.appliance_offset_ms())
        ours.set_epoch(*theirs.epoch())
        ours.set_log_position(theirs.log_position())
        ours.set_authorized(True)
        self.bench.start_worker_of(
            self.name,
            page=self.page,
            listener=self.listener,
            member_id=self.member_id,
            certificate_pem=self.certificate_pem,
            key_pem=self.key_pem,
        )

    def replay(self, keyring_id: bytes) -> None:
        """Let its page say that it has what the first member has."""
        self.page.bump_keyring(KeyringId(keyring_id))
        self.page.set_log_position(self.bench.page.log_position())

    def context(self) -> ssl.SSLContext:
        """Return the TLS context with which this member calls another."""
        assert self.bench.certificate is not None
        ca_pem = self.bench.certificate.ca_certificate_pem.encode()
        return member_context(self.certificate_pem, self.key_pem, ca_pem)

    async def call_first(self) -> WireClient:
        """Connect to the first member's worker as this member."""
        return await self.bench.connect_with(self.context())

    def close(self) -> None:
        self.listener.close()
        self.page.close()
