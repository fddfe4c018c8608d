"""Whom the module trusts, and what it says when it does not (native/pkcs11/README.md, faults)."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from conclave.errors import Ckr
from tests.native.certificates import (
    SERVER_NAME,
    Authority,
    make_authority,
    write_all,
    write_identity,
    write_pem,
)
from tests.native.driver import Driver, write_configuration
from tests.native.echo_server import EchoServer, server_context
from tests.native.waiting import SOON_MS, wait_until

ECHO = 40
TOKEN_NOT_RECOGNIZED = 0xE1


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return write_all(tmp_path)


@pytest.fixture
def directory(tmp_path: Path, authority: Authority) -> Path:
    return tmp_path


def one_call(program: Path, directory: Path, **settings: Any) -> dict[str, Any]:
    """Start, call once, stop."""
    with Driver(program, directory, **settings) as driver:
        assert driver.do("start")["value"] == Ckr.OK
        answer = driver.call(ECHO, "data")
        driver.do("stop")
    return answer


def trace(directory: Path) -> str:
    return (directory / "trace.log").read_text()


# --- the server's identity --------------------------------------------------------------------


def test_a_server_of_another_authority_is_no_token_of_ours(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers()
    write_pem(directory / "authority.pem", make_authority("another CA").certificate)
    assert one_call(plain_driver, directory)["value"] == TOKEN_NOT_RECOGNIZED


def test_a_server_of_another_name_is_no_token_of_ours(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers()
    write_configuration(directory, server.port, name="other.example")
    assert one_call(plain_driver, directory)["value"] == TOKEN_NOT_RECOGNIZED
    assert "hostname mismatch" in trace(directory).lower()


def test_a_wildcard_certificate_does_not_stand_for_the_name(
    plain_driver: Path,
    directory: Path,
    authority: Authority,
    servers: Callable[..., EchoServer],
) -> None:
    write_identity(authority, directory, "server", "x", dns_name="*.thalesgroup.com")
    servers()
    assert one_call(plain_driver, directory)["value"] == TOKEN_NOT_RECOGNIZED


@pytest.mark.parametrize(
    "names", [("a member", SERVER_NAME), (SERVER_NAME, None), (SERVER_NAME, "member.example")]
)
def test_the_name_may_stand_in_either_place(
    plain_driver: Path,
    directory: Path,
    authority: Authority,
    servers: Callable[..., EchoServer],
    names: tuple[str, str | None],
) -> None:
    common_name, dns_name = names
    write_identity(authority, directory, "server", common_name, dns_name=dns_name)
    servers()
    assert one_call(plain_driver, directory)["value"] == Ckr.OK


@pytest.mark.parametrize("days", [-30, 30])
def test_t1_the_hosts_clock_does_not_judge_certificates(
    plain_driver: Path,
    directory: Path,
    authority: Authority,
    servers: Callable[..., EchoServer],
    days: int,
) -> None:
    shift = datetime.timedelta(days=days)
    write_identity(authority, directory, "server", SERVER_NAME, shift=shift)
    servers()
    assert one_call(plain_driver, directory)["value"] == Ckr.OK


def test_tls_1_2_is_not_spoken(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers()
    server.context = context = server_context(directory)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert one_call(plain_driver, directory)["value"] == TOKEN_NOT_RECOGNIZED


# --- our own identity -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["another CA", "Conclave test CA"])
def test_a_refused_client_certificate_says_so(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer], name: str
) -> None:
    servers()
    write_identity(make_authority(name), directory, "client", "192.0.2.7")
    assert one_call(plain_driver, directory)["value"] == Ckr.UNABLE_TO_CONNECT
    assert "refused this client" in trace(directory)


@pytest.mark.parametrize(
    "end", [(-3, "has expired by this host's clock"), (27, "ends in 29 days"), (29, "")]
)
def test_the_trace_warns_before_the_certificate_ends(
    plain_driver: Path,
    directory: Path,
    authority: Authority,
    servers: Callable[..., EchoServer],
    end: tuple[int, str],
) -> None:
    days, told = end
    shift = datetime.timedelta(days=days, hours=1)
    write_identity(authority, directory, "client", "192.0.2.7", shift=shift)
    servers()
    one_call(plain_driver, directory)
    if told:
        assert f"client.pem {told}; renew it" in trace(directory)
        assert "LNHClientRegistration.sh --renew 00" in trace(directory)
    else:
        assert "renew" not in (directory / "trace.log").read_text()


@pytest.mark.parametrize("missing", ["client.pem", "client.key", "authority.pem"])
def test_a_missing_file_says_so(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer], missing: str
) -> None:
    servers()
    (directory / missing).unlink()
    assert one_call(plain_driver, directory)["value"] == Ckr.UNABLE_TO_CONNECT
    assert missing in trace(directory)


def test_a_key_of_another_certificate_says_so(
    plain_driver: Path,
    directory: Path,
    authority: Authority,
    servers: Callable[..., EchoServer],
) -> None:
    servers()
    write_identity(authority, directory, "other", "192.0.2.8")
    (directory / "client.key").write_bytes((directory / "other.key").read_bytes())
    assert one_call(plain_driver, directory)["value"] == Ckr.UNABLE_TO_CONNECT


def test_an_encrypted_key_asks_nobody_for_a_passphrase(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers()
    (directory / "client.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqG\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    assert one_call(plain_driver, directory)["value"] == Ckr.UNABLE_TO_CONNECT


def test_a_renewed_certificate_is_used_at_the_next_connection(
    driver: Driver, directory: Path, authority: Authority, server: EchoServer
) -> None:
    assert driver.call(ECHO)["value"] == Ckr.OK
    write_identity(authority, directory, "client", "192.0.2.99")
    server.hang_up()
    assert driver.call(ECHO)["value"] == Ckr.OK
    assert server.client_serials[0] != server.client_serials[1]
    renewed = x509.load_pem_x509_certificate((directory / "client.pem").read_bytes())
    assert server.client_serials[1] == renewed.serial_number


def test_files_that_can_no_longer_be_read_are_not_needed_again(
    driver: Driver, directory: Path, server: EchoServer
) -> None:
    """An application may have dropped the right to read its key since it connected."""
    assert driver.call(ECHO)["value"] == Ckr.OK
    (directory / "client.key").unlink()
    server.hang_up()
    assert driver.call(ECHO)["value"] == Ckr.OK


# --- the application's OpenSSL ----------------------------------------------------------------


def test_the_applications_openssl_configuration_does_not_reach_us(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    """Without the default provider, and with an engine that cannot load, we still connect."""
    servers()
    configuration = directory / "openssl.cnf"
    configuration.write_text(
        "openssl_conf = init\n"
        "[init]\nproviders = providers\nssl_conf = ssl\n"
        "[providers]\nnull = null\n[null]\nactivate = 1\n"
        "[ssl]\nsystem_default = tls\n[tls]\nMaxProtocol = TLSv1.2\n"
    )
    environment = {"OPENSSL_CONF": str(configuration)}
    assert one_call(plain_driver, directory, environment=environment)["value"] == Ckr.OK


def test_the_applications_openssl_configuration_is_not_read_before_the_first_connection(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    """C_Initialize may be called from inside it: an engine in it may load this module."""
    servers()
    configuration = directory / "openssl.cnf"
    os.mkfifo(configuration)  # whoever opens it waits for a writer
    with Driver(
        plain_driver, directory, environment={"OPENSSL_CONF": str(configuration)}
    ) as driver:
        assert driver.do("start")["value"] == Ckr.OK
        driver.do("stop")


# --- no connection ----------------------------------------------------------------------------


def test_nobody_at_the_address_is_a_token_not_present(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers().stop()
    answer = one_call(plain_driver, directory)
    assert answer["value"] == Ckr.TOKEN_NOT_PRESENT
    assert answer["milliseconds"] < SOON_MS


def test_a_member_that_was_there_and_is_gone_is_a_device_error(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers()
    with Driver(plain_driver, directory, call_time_ms=500) as driver:
        driver.do("start")
        assert driver.call(ECHO)["value"] == Ckr.OK
        server.stop()
        answer = driver.call(ECHO)
    assert answer["value"] == Ckr.DEVICE_ERROR
    assert answer["milliseconds"] < SOON_MS


def test_a_member_that_accepts_and_says_nothing_is_given_up(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers(deaf=True)
    answer = one_call(plain_driver, directory, call_time_ms=1500)
    assert answer["value"] == Ckr.TOKEN_NOT_PRESENT
    assert 1400 <= answer["milliseconds"] < SOON_MS


def test_c25_a_deaf_connection_is_overtaken_by_another(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(deaf=True)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        driver.begin(f"call {ECHO} 90")
        assert wait_until(lambda: server.connections == 1)
        server.deaf = False
        answer = driver.end()
    assert answer["value"] == Ckr.OK
    assert 250 <= answer["milliseconds"] < SOON_MS


def test_a_server_that_greets_and_hangs_up_is_not_dialled_without_end(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(hangs_up=True)
    answer = one_call(plain_driver, directory, call_time_ms=1500)
    assert answer["value"] == Ckr.DEVICE_ERROR
    assert len(server.greeted) < 20


def test_a_refused_hello_is_the_answer(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(hello_value=int(Ckr.TOKEN_NOT_PRESENT))
    assert one_call(plain_driver, directory)["value"] == Ckr.TOKEN_NOT_PRESENT
    assert len(server.greeted) == 1


def test_without_a_configuration_there_is_no_cluster(plain_driver: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Driver(plain_driver, tmp_path / "empty") as driver:
        assert driver.do("start") == {"value": 0, "clusters": 0}


def test_an_unreadable_configuration_is_a_general_error(plain_driver: Path, tmp_path: Path) -> None:
    (tmp_path / "Chrystoki.conf").mkdir()
    with Driver(plain_driver, tmp_path) as driver:
        assert driver.do("start")["value"] == Ckr.GENERAL_ERROR


def test_an_incomplete_entry_is_a_cluster_that_cannot_be_reached(
    plain_driver: Path, directory: Path
) -> None:
    (directory / "Chrystoki.conf").write_text(
        "LunaSA Client = {\nLNHServer00 = 127.0.0.1:70000;\n}"
    )
    assert one_call(plain_driver, directory)["value"] == Ckr.UNABLE_TO_CONNECT
    assert "1 to 65535" in trace(directory)
