"""Clients on the member's own host: a Unix socket instead of TCP, and everything else as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave.client import AsyncClient, Client
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from tests.native.driver import NATIVE, write_configuration
from tests.service.conftest import Tenant, make_tenant
from tests.support.cluster_bench import PASSWORD
from tests.support.cryptoki import Cryptoki, mechanism
from tests.support.ports import free_port
from tests.support.worker_bench import worker_bench

pytestmark = pytest.mark.system

MODULE = NATIVE.parent / "src/conclave/_native/libconclave_pkcs11.so"


def run(tmp_path: Path, scenario: Callable[[Tenant, Path], Awaitable[None]]) -> None:
    """Give a scenario a tenant with a key, at a member that has a Unix socket too."""
    path = tmp_path / "crypto.sock"

    async def bounded() -> None:
        async with asyncio.timeout(240), worker_bench(tmp_path, local=path) as bench:
            tenant = await make_tenant(bench)
            await tenant.ec_key(label=b"key")
            await scenario(tenant, path)

    asyncio.run(bounded())


def configure(tenant: Tenant, directory: Path, port: int, path: Path) -> None:
    """Write the files of a client that is told of a port and of a Unix socket."""
    directory.mkdir()
    identity = tenant.identity
    (directory / "client.pem").write_bytes(identity.certificate_pem)
    (directory / "client.key").write_bytes(identity.key_pem)
    (directory / "authority.pem").write_text(identity.ca_pem)
    write_configuration(directory, port, name="lnh.test")
    file = directory / "Chrystoki.conf"
    text = file.read_text().replace("LNHServer00", f"LNHServerSocket00 = {path};\n    LNHServer00")
    file.write_text(text)


def port_of(tenant: Tenant) -> int:
    return int(tenant.bench.listener.getsockname()[1])


def signs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign with the module as a new process would."""
    monkeypatch.setenv("ChrystokiConfigurationPath", str(directory))
    library = Cryptoki(str(MODULE), directory)
    library.do("C_Initialize", None)
    try:
        (slot,) = library.slots()
        session = library.open(slot)
        assert session.login(PASSWORD.decode()) == Ckr.OK
        (key,) = session.find({Cka.LABEL: b"key", Cka.SIGN: b"\1"})
        assert len(session.whole("Sign", mechanism(Ckm.ECDSA_SHA256), key, b"data")) == 64
    finally:
        library.do("C_Finalize", None)


def test_the_module_needs_no_port_where_the_socket_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(tenant: Tenant, path: Path) -> None:
        configure(tenant, tmp_path / "near", free_port(), path)
        await asyncio.to_thread(signs, tmp_path / "near", monkeypatch)

    run(tmp_path, scenario)


def test_the_module_uses_the_port_where_the_socket_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(tenant: Tenant, _path: Path) -> None:
        configure(tenant, tmp_path / "far", port_of(tenant), tmp_path / "absent.sock")
        await asyncio.to_thread(signs, tmp_path / "far", monkeypatch)

    run(tmp_path, scenario)


@pytest.mark.parametrize("near", [True, False])
def test_the_library_takes_either_way(tmp_path: Path, near: bool) -> None:
    async def scenario(tenant: Tenant, path: Path) -> None:
        way = (free_port(), path) if near else (port_of(tenant), tmp_path / "absent.sock")
        configure(tenant, tmp_path / "python", *way)
        environment = {"ChrystokiConfigurationPath": str(tmp_path / "python")}
        signature = await asyncio.to_thread(blocking, environment)
        async with AsyncClient.from_environment(environment) as client:
            (token,) = await client.tokens()
            async with client.keyring(token.label, PASSWORD) as keyring:
                await (await keyring.public_key("key")).verify(signature, b"data")
        assert len(signature) == 64

    run(tmp_path, scenario)


def blocking(environment: dict[str, str]) -> bytes:
    with Client.from_environment(environment) as client:
        (token,) = client.tokens()
        with client.keyring(token.label, PASSWORD) as keyring:
            return keyring.private_key("key").sign(b"data")
