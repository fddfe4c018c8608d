"""The module with the real workers of two members that share a store."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave.clock import boot_time_ms
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from conclave.service.page import NO_LEASE_END
from tests.native.driver import NATIVE, write_configuration
from tests.native.waiting import SOON_MS, wait_until
from tests.service.conftest import Tenant, make_tenant
from tests.support.cluster_bench import PASSWORD
from tests.support.cryptoki import Cryptoki, Refused, Session, mechanism
from tests.support.second_member import SecondMember
from tests.support.worker_bench import worker_bench

pytestmark = pytest.mark.system

MODULE = NATIVE.parent / "src/conclave/_native/libconclave_pkcs11.so"
SIGNATURES = 20
RO_USER, RW_USER = 1, 3
CKF_WRITE_PROTECTED = 2

Scenario = Callable[[Tenant, SecondMember], Awaitable[None]]


def run(tmp_path: Path, scenario: Scenario) -> None:
    """Give a scenario a tenant on two members of one group."""

    async def bounded() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path) as bench:
            other = SecondMember(bench)
            try:
                other.enrol()
                tenant = await make_tenant(bench)
                await tenant.ec_key(label=b"key")
                other.start()
                await scenario(tenant, other)
            finally:
                for process in bench.processes.values():
                    process.send_signal(signal.SIGCONT)
                other.close()

    asyncio.run(bounded())


def configure(tenant: Tenant, directory: Path, port: int, *, direct: bool = True) -> None:
    """Write the files of a client whose entry member has this port."""
    directory.mkdir()
    identity = tenant.identity
    (directory / "client.pem").write_bytes(identity.certificate_pem)
    (directory / "client.key").write_bytes(identity.key_pem)
    (directory / "authority.pem").write_text(identity.ca_pem)
    write_configuration(directory, port, name="lnh.test", direct=direct)


class Application:
    """A process of its own would be the same: the module, a session, a key."""

    def __init__(self, directory: Path) -> None:
        self.library = Cryptoki(str(MODULE), directory)
        self.library.do("C_Initialize", None)
        (self.slot,) = self.library.slots()
        self.session: Session = self.library.open(self.slot)
        assert self.session.login(PASSWORD.decode()) == Ckr.OK
        self.private, self.public = (
            self.session.find({Cka.LABEL: b"key", kind: b"\1"})[0]
            for kind in (Cka.SIGN, Cka.VERIFY)
        )

    def sign(self) -> float:
        """Make and verify some signatures; return the longest time one took, in seconds."""
        longest = 0.0
        for number in range(SIGNATURES):
            data, begun = b"message %d" % number, time.monotonic()
            use = mechanism(Ckm.ECDSA_SHA256)
            signature = self.session.whole("Sign", use, self.private, data)
            longest = max(longest, time.monotonic() - begun)
            assert self.session.verified(use, self.public, data, signature) == Ckr.OK
        return longest

    def shows_read_only(self) -> bool:
        """Tell what session and token show, which must be the same."""
        state, flags = self.session.state(), self.library.token(self.slot).flags
        assert state in (RO_USER, RW_USER)
        assert (state == RO_USER) == bool(flags & CKF_WRITE_PROTECTED)
        return state == RO_USER

    def create(self) -> int:
        """Create a token object and return the CK_RV."""
        try:
            self.session.create(
                {Cka.CLASS: 0, Cka.TOKEN: b"\1", Cka.LABEL: b"new", Cka.VALUE: b"v"}
            )
        except Refused as refused:
            return refused.value
        return Ckr.OK

    def close(self) -> None:
        self.library.value("C_Finalize", None)


def test_an_application_never_notices_what_its_members_go_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "client"
    monkeypatch.setenv("ChrystokiConfigurationPath", str(directory))

    def go_through(tenant: Tenant, other: SecondMember) -> None:
        processes = tenant.bench.processes
        first, second = processes["worker-0"], processes[other.name]
        application = Application(directory)
        application.sign()
        assert str(other.member_id) in (directory / "client.pem.members").read_text()
        for victim in (first, second):
            victim.send_signal(signal.SIGSTOP)
            assert application.sign() < SOON_MS / 1000
            victim.send_signal(signal.SIGCONT)
            assert application.sign() < SOON_MS / 1000
        first.kill()
        first.wait(10)
        assert application.sign() < SOON_MS / 1000
        application.close()

    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        other.replay(tenant.keyring)
        configure(tenant, directory, tenant.bench.listener.getsockname()[1])
        await asyncio.to_thread(go_through, tenant, other)

    run(tmp_path, scenario)


@pytest.mark.parametrize("direct", [False, True])
def test_b5_a_read_only_entry_member_refuses_changes_or_has_them_made_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    directory = tmp_path / "client"
    monkeypatch.setenv("ChrystokiConfigurationPath", str(directory))

    def go_through(entry: SecondMember) -> None:
        page = entry.page
        application = Application(directory)
        assert not application.shows_read_only()
        assert application.create() == Ckr.OK
        page.set_lease_end(boot_time_ms())
        application.sign()
        assert application.create() == (Ckr.OK if direct else Ckr.TOKEN_WRITE_PROTECTED)
        assert application.shows_read_only() is not direct
        page.set_lease_end(NO_LEASE_END)
        assert wait_until(lambda: not application.shows_read_only())
        assert application.create() == Ckr.OK
        application.close()

    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        other.replay(tenant.keyring)
        configure(tenant, directory, other.port, direct=direct)
        await asyncio.to_thread(go_through, other)

    run(tmp_path, scenario)
