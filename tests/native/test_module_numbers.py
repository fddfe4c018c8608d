"""Diffie-Hellman over numbers through the module: published vectors, pairs, OpenSSL, refusals."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conclave.crypto.groups import GENERATOR, GROUPS, GroupRow
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.native.test_module_derivation import READABLE, derive, derived
from tests.support.crypto_vectors import cases, octets
from tests.support.cryptoki import Mechanism, Refused, Session, Template, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

BY_NAME = {row.name: row for row in GROUPS}


def group(row: GroupRow) -> Template:
    return {Cka.PRIME: row.prime, Cka.BASE: GENERATOR}


def private(session: Session, row: GroupRow, value: bytes) -> int:
    head: Template = {Cka.CLASS: Cko.PRIVATE_KEY, Cka.KEY_TYPE: Ckk.DH, Cka.DERIVE: True}
    return session.create({**head, **group(row), Cka.VALUE: value})


def with_public(value: bytes) -> Mechanism:
    return mechanism(Ckm.DH_PKCS_DERIVE, value)


@pytest.mark.parametrize("name", ["dh_ffdhe", "dh_modp"])
def test_published_secrets_are_agreed(session: Session, name: str) -> None:
    for case in cases(name):
        base = private(session, BY_NAME[case["group"]], octets(case["private"]))
        how, secret = with_public(octets(case["public"])), octets(case["secret"])
        assert derived(session, how, base) == secret, case
        aes: Template = {Cka.KEY_TYPE: Ckk.AES, Cka.VALUE_LEN: 32}
        assert derived(session, how, base, aes) == secret[-32:], case


@pytest.mark.parametrize("row", GROUPS, ids=lambda row: row.name)
@pytest.mark.parametrize("token", [True, False])
def test_both_sides_get_one_secret(session: Session, row: GroupRow, token: bool) -> None:
    where: Template = {Cka.TOKEN: token}
    pairs = [
        session.generate_pair(
            Ckm.DH_PKCS_KEY_PAIR_GEN, {**group(row), **where}, {Cka.DERIVE: True, **where}
        )
        for _ in range(2)
    ]
    values = [session.get(public, Cka.VALUE) for public, _ in pairs]
    secrets = [
        derived(session, with_public(values[1 - index]), secret)
        for index, (_, secret) in enumerate(pairs)
    ]
    assert secrets[0] == secrets[1]
    assert len(secrets[0]) == row.bits // 8
    assert session.get(pairs[0][1], Cka.PRIME) == row.prime
    assert session.find({Cka.KEY_TYPE: Ckk.DH, Cka.VALUE: values[0]}) == [pairs[0][0]]
    for handle in (*pairs[0], *pairs[1]):
        session.do("C_DestroyObject", handle)


def run(*command: str, data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout


def value_of(row: GroupRow, info: bytes) -> bytes:
    """Return the number at the end of a SubjectPublicKeyInfo, which may be shorter than most."""
    after = info.partition(row.prime)[2]
    integer = after[after.index(b"\x03\x82") + 5 :]
    return integer[{0x81: 3, 0x82: 4}[integer[1]] :]


@pytest.mark.parametrize("row", GROUPS, ids=lambda row: row.name)
def test_openssl_and_the_module_agree(session: Session, row: GroupRow, tmp_path: Path) -> None:
    name = row.name.lower().replace("-", "_")
    theirs, ours = tmp_path / "theirs.pem", tmp_path / "ours.der"
    theirs.write_bytes(run("openssl", "genpkey", "-algorithm", "DH", "-pkeyopt", f"group:{name}"))
    info = run("openssl", "pkey", "-pubout", "-outform", "DER", data=theirs.read_bytes())
    public, secret = session.generate_pair(Ckm.DH_PKCS_KEY_PAIR_GEN, group(row), {Cka.DERIVE: True})
    ours.write_bytes(session.get(public, Cka.PUBLIC_KEY_INFO))
    derive_with_openssl = ("openssl", "pkeyutl", "-derive", "-inkey", str(theirs))
    peer = ("-peerkey", str(ours), "-peerform", "DER", "-pkeyopt", "dh_pad:1")
    made = derived(session, with_public(value_of(row, info)), secret)
    assert made == run(*derive_with_openssl, *peer)


def test_what_is_refused_has_its_name(session: Session) -> None:
    row = BY_NAME["ffdhe2048"]
    base = private(session, row, bytes(range(1, 33)))
    prime = int.from_bytes(row.prime)
    for wrong in (None, b"\1", (prime - 1).to_bytes(256, "big"), (prime - 2).to_bytes(256, "big")):
        how = mechanism(Ckm.DH_PKCS_DERIVE, wrong)
        assert derive(session, how, base, READABLE)[0] == Ckr.MECHANISM_PARAM_INVALID, wrong
    too_long: Template = {Cka.VALUE_LEN: 257}
    assert derive(session, with_public(b"\2"), base, too_long)[0] == Ckr.KEY_SIZE_RANGE
    for template in ({Cka.PRIME: b"\x17", Cka.BASE: b"\5"}, {**group(row), Cka.BASE: b"\5"}):
        with pytest.raises(Refused) as caught:
            session.generate_pair(Ckm.DH_PKCS_KEY_PAIR_GEN, template)
        assert caught.value.value == Ckr.DOMAIN_PARAMS_INVALID
