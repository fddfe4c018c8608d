"""How many deletions of members the registration of a client lasts for (rule C3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conclave.cluster.ca import ClientRequest, der, pem, pems, spki_der
from conclave.cluster.rotation import KEPT_AUTHORITIES
from conclave.errors import Ckr
from conclave.ids import ClientId
from tests.native.driver import Driver, write_configuration
from tests.native.echo_server import EchoServer, server_context
from tests.support.ca_versions import versions
from tests.support.link_bench import FIRST

ECHO = 40
SERVER_NAME = "lnh.test"
TOKEN_NOT_RECOGNIZED = 0xE1
FIRST_DELETION = datetime.now(UTC) - timedelta(days=400)


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a key and write it."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


@contextmanager
def after(directory: Path, deletions: int, *, trusted: bool = True) -> Iterator[None]:
    """Serve as a member does after deletions, of which a client was registered before the first.

    With `trusted` false the client knows the newest CA, but its certificate is of the first.
    """
    keys, authorities = versions(deletions + 1, FIRST_DELETION)
    first, newest, now = authorities[0], authorities[-1], datetime.now(UTC)
    own = newest.certify_member(
        spki_der(write_key(directory / "server.key").public_key()),
        FIRST,
        common_name=SERVER_NAME,
        other_names=[],
        now=now,
    )
    (directory / "server.pem").write_text(pems((der(own), *keys.cross_certificates)))
    (directory / "authority.pem").write_text(
        pems((der(newest.certificate), *keys.former_authorities))
    )
    request = ClientRequest("client", write_key(directory / "client.key").public_key())
    client = first.certify_client(request, ClientId(b"c" * 16), FIRST_DELETION)
    (directory / "client.pem").write_text(pem(der(client)))
    known = directory / "known.pem"
    known.write_text(pem(der((first if trusted else newest).certificate)))
    server = EchoServer(server_context(directory))
    write_configuration(directory, server.port, name=SERVER_NAME, files={"CAFile": known})
    yield
    server.stop()


def outcome(program: Path, directory: Path) -> tuple[int, str]:
    """Return what a call gives, and what the module says of it."""
    with Driver(program, directory) as driver:
        driver.do("start")
        answer = driver.call(ECHO, "data")
    return answer["value"], (directory / "trace.log").read_text()


@pytest.mark.parametrize("deletions", [1, 8, 63])
def test_c3_a_client_that_was_off_follows_63_deletions(
    plain_driver: Path, tmp_path: Path, deletions: int
) -> None:
    with after(tmp_path, deletions):
        value, told = outcome(plain_driver, tmp_path)
    assert value == Ckr.OK, told


def test_c3_after_one_more_it_is_told_to_register_again(plain_driver: Path, tmp_path: Path) -> None:
    with after(tmp_path, KEPT_AUTHORITIES):
        value, told = outcome(plain_driver, tmp_path)
    assert value == TOKEN_NOT_RECOGNIZED
    assert "register this client again" in told


def test_c3_so_it_is_when_only_its_certificate_is_too_old(
    plain_driver: Path, tmp_path: Path
) -> None:
    with after(tmp_path, KEPT_AUTHORITIES, trusted=False):
        value, told = outcome(plain_driver, tmp_path)
    assert value == Ckr.UNABLE_TO_CONNECT
    assert "register this client again" in told
