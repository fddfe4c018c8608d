"""The typed keyrings of the package, both faces, against a real member."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import cast, get_args

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed25519,
    mlkem,
    padding,
    rsa,
    utils,
    x25519,
)
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.x509.oid import NameOID

from conclave.client import (
    AsyncClient,
    AsyncPrivateKey,
    Certificate,
    Cka,
    Ckk,
    Ckm,
    Cko,
    Ckr,
    Client,
    ConclaveError,
    Keyring,
    PairName,
    PrivateKey,
    PublicKey,
    SecretName,
    Value,
)
from conclave.client.key_kinds import pair_kind, secret_kind
from conclave.errors import BadInput, Conflict, CredentialRefused, NotAllowed, NotFound
from tests.client.conftest import Owner
from tests.support.cluster_bench import PASSWORD

pytestmark = pytest.mark.system

WRAPPING: dict[int, Value] = {Cka.WRAP: True, Cka.UNWRAP: True}
DERIVING: dict[int, Value] = {Cka.DERIVE: True}
ASKING: dict[int, Value] = {Cka.ALWAYS_AUTHENTICATE: True}
EXTRACTABLE: dict[int, Value] = {Cka.EXTRACTABLE: True}


@pytest.fixture(scope="module")
def client(owner: Owner) -> Iterator[Client]:
    with Client.from_environment(owner.environment) as client:
        yield client


@pytest.fixture(scope="module")
def opened(client: Client) -> Iterator[Keyring]:
    (token,) = client.tokens()
    with client.keyring(token.label, PASSWORD) as keyring:
        yield keyring


@pytest.fixture
def keyring(opened: Keyring) -> Iterator[Keyring]:
    yield opened
    opened.destroy(opened.search())


def refusal_of(error: pytest.ExceptionInfo[ConclaveError]) -> Ckr:
    return error.value.fault.ckr


@pytest.mark.parametrize("name", ["RSA-2048", "P-256", "brainpoolP512r1", "Ed448", "ML-DSA-65"])
def test_every_kind_of_pair_signs_and_verifies_as_is_usual_for_it(
    keyring: Keyring, name: PairName
) -> None:
    pair = keyring.generate_key_pair(name, token=False)
    signature = pair.private.sign(b"data")
    pair.public.verify(signature, b"data")
    with pytest.raises(ConclaveError) as refused:
        pair.public.verify(signature, b"other")
    assert refusal_of(refused) is Ckr.SIGNATURE_INVALID
    assert pair.public.public_key() == pair.private.public_key()


def test_signatures_are_those_of_the_standards(keyring: Keyring) -> None:
    data = b"x" * 2_000_000
    signer = keyring.generate_key_pair("RSA-2048", token=False).private
    public = signer.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signer.sign(data), data, padding.PKCS1v15(), hashes.SHA256())
    pss = signer.sign(data, Ckm.SHA384_RSA_PKCS_PSS)
    public.verify(pss, data, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
    digest = hashlib.sha512(data).digest()
    signature = signer.sign_digest(digest, Ckm.SHA512_RSA_PKCS)
    public.verify(signature, data, padding.PKCS1v15(), hashes.SHA512())
    on_curve = keyring.generate_key_pair("P-384", token=False).private
    halves, point = on_curve.sign(data), on_curve.public_key()
    assert isinstance(point, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(halves[:48]), int.from_bytes(halves[48:])
    point.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))


def test_every_name_is_a_kind() -> None:
    assert {pair_kind(name).key_type for name in get_args(PairName)} >= {Ckk.RSA, Ckk.EC}
    assert {secret_kind(name).key_type for name in get_args(SecretName)} >= {Ckk.AES}


@pytest.mark.parametrize("name", ["AES-192", "ChaCha20", "HMAC-256", "HMAC-384", "HMAC-512"])
def test_every_kind_of_secret_key_does_what_it_is_for(keyring: Keyring, name: SecretName) -> None:
    key = keyring.generate_key(name, token=False)
    if name.startswith("HMAC"):
        code = key.sign(b"data")
        assert len(code) * 8 == int(name.removeprefix("HMAC-"))
        key.verify(code, b"data")
        with pytest.raises(BadInput, match="Only AES and ChaCha20"):
            key.seal(b"data")
        return
    sealed = key.seal(b"data", additional_data=b"about")
    assert key.unseal(sealed, additional_data=b"about") == b"data"
    assert key.seal(b"data") != key.seal(b"data"), "each time another nonce"
    with pytest.raises(ConclaveError) as refused:
        key.unseal(sealed, additional_data=b"other")
    assert refusal_of(refused) is Ckr.ENCRYPTED_DATA_INVALID
    with pytest.raises(BadInput, match="at least 28 bytes: 27"):
        key.unseal(bytes(27))


def test_a_mechanism_with_its_parameter_encrypts_and_makes_codes(keyring: Keyring) -> None:
    key = keyring.generate_key("AES-128", token=False)
    ciphertext = key.encrypt(b"data", Ckm.AES_CBC_PAD, parameter=b"i" * 16)
    assert key.decrypt(ciphertext, Ckm.AES_CBC_PAD, parameter=b"i" * 16) == b"data"
    coding = keyring.generate_key(token=False, attributes={Cka.SIGN: True, Cka.VERIFY: True})
    coding.verify(coding.sign(b"data"), b"data")
    pair = keyring.generate_key_pair("RSA-2048", token=False)
    assert pair.private.decrypt(pair.public.encrypt(b"data")) == b"data"


def test_search_finds_objects_as_what_they_are(keyring: Keyring) -> None:
    pair = keyring.generate_key_pair(label="one", key_id=b"\1\2")
    secret = keyring.generate_key(label="two")
    found = {type(each): each for each in keyring.search(label="one")}
    assert set(found) == {PublicKey, PrivateKey}
    assert found[PrivateKey].id == b"\1\2"
    assert [each.label for each in keyring.search(key_type=Ckk.AES)] == ["two"]
    assert keyring.search(attributes={Cka.LABEL: "two"})[0].reference == secret.reference
    assert keyring.search(object_class=Cko.CERTIFICATE) == []
    assert keyring.private_key("one").key_type is Ckk.EC
    assert keyring.private_key(key_id=b"\1\2").reference == pair.private.reference
    assert keyring.public_key("one").reference == pair.public.reference
    assert repr(keyring.secret_key("two")) == "SecretKey(label='two', id='')"
    with pytest.raises(NotFound, match="no secret key 'one'"):
        keyring.secret_key("one")
    keyring.generate_key(label="two")
    with pytest.raises(Conflict, match="2 objects that are secret key 'two'"):
        keyring.secret_key("two")


def test_objects_are_changed_read_and_destroyed(keyring: Keyring) -> None:
    key = keyring.generate_key(label="before", attributes=EXTRACTABLE)
    key.change({Cka.LABEL: "after", Cka.ID: b"\7"})
    assert (key.label, key.id) == ("after", b"\7")
    assert key.attributes(Cka.LABEL, Cka.VALUE) == {Cka.LABEL: b"after", Cka.VALUE: None}
    assert keyring.info().object_count == 1
    key.destroy()
    assert keyring.search() == []
    kept = keyring.generate_key(token=False)
    kept.destroy()


def test_keys_are_wrapped_and_unwrapped(keyring: Keyring) -> None:
    secret = keyring.generate_key("AES-256", token=False, attributes=EXTRACTABLE)
    sealed = secret.seal(b"data")
    for_keys = keyring.generate_key("AES-256", token=False, attributes=WRAPPING)
    again = for_keys.unwrap(for_keys.wrap(secret), "AES-256", token=False)
    assert again.unseal(sealed) == b"data"
    pair = keyring.generate_key_pair(
        "RSA-2048",
        token=False,
        attributes={Cka.UNWRAP: True},
        public_attributes={Cka.WRAP: True},
    )
    for mechanism in (Ckm.RSA_PKCS_OAEP, Ckm.RSA_AES_KEY_WRAP):
        wrapped = pair.public.wrap(secret, mechanism)
        taken = pair.private.unwrap(wrapped, "AES-256", mechanism, label="taken")
        assert taken.unseal(sealed) == b"data"
    assert len(keyring.search(label="taken")) == 2
    with pytest.raises(ConclaveError) as refused:
        for_keys.wrap(keyring.generate_key(token=False))
    assert refusal_of(refused) is Ckr.KEY_UNEXTRACTABLE


def test_keys_are_agreed_with_others_and_derived(keyring: Keyring) -> None:
    readable: dict[int, Value] = {**EXTRACTABLE, Cka.SENSITIVE: False}
    peer = x25519.X25519PrivateKey.generate()
    mine = keyring.generate_key_pair("X25519", token=False, attributes=DERIVING).private
    shared = mine.agree(peer.public_key(), shared_data=b"both", attributes=readable)
    public = mine.public_key()
    assert isinstance(public, x25519.X25519PublicKey)
    expected = X963KDF(hashes.SHA256(), 32, b"both").derive(peer.exchange(public))
    assert shared.attributes(Cka.VALUE) == {Cka.VALUE: expected}
    other = ec.generate_private_key(ec.SECP256R1())
    own = keyring.generate_key_pair("P-256", token=False, attributes=DERIVING).private
    key = own.agree(other.public_key(), "HMAC-256", attributes=DERIVING)
    first, second = (key.derive(b"use", salt=b"salt", token=False) for _ in range(2))
    assert second.unseal(first.seal(b"data")) == b"data"
    with pytest.raises(ConclaveError):
        key.derive(b"another use", salt=b"salt").unseal(first.seal(b"data"))
    with pytest.raises(BadInput, match="No key is agreed with"):
        mine.agree(ed25519.Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize("name", ["ML-KEM-768", "ML-KEM-1024"])
def test_secrets_are_encapsulated_for_others_and_come_back(
    keyring: Keyring, name: PairName
) -> None:
    pair = keyring.generate_key_pair(name, token=False)
    ciphertext, key = pair.public.encapsulate()
    assert pair.private.decapsulate(ciphertext).unseal(key.seal(b"data")) == b"data"
    readable: dict[int, Value] = {**EXTRACTABLE, Cka.SENSITIVE: False}
    public = pair.private.public_key()
    assert isinstance(public, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey)
    secret, for_us = public.encapsulate()
    taken = pair.private.decapsulate(for_us, "HMAC-256", attributes=readable)
    assert taken.attributes(Cka.VALUE) == {Cka.VALUE: secret}
    other = mlkem.MLKEM768PrivateKey.generate()
    partner = keyring.import_public_key(other.public_key(), label=f"{name}'s partner")
    for_them, mine = partner.encapsulate("HMAC-256", attributes=readable)
    assert mine.attributes(Cka.VALUE) == {Cka.VALUE: other.decapsulate(for_them)}
    with pytest.raises(ConclaveError) as refused:
        pair.public.encapsulate("AES-128")
    assert refusal_of(refused) is Ckr.TEMPLATE_INCONSISTENT


def test_public_keys_come_in_and_verify(keyring: Keyring) -> None:
    own = ed25519.Ed25519PrivateKey.generate()
    taken = keyring.import_public_key(own.public_key(), label="partner")
    taken.verify(own.sign(b"data"), b"data")
    other = rsa.generate_private_key(65537, 2048)
    pem = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    second = keyring.import_public_key(pem, label="pem", key_id=b"\5")
    second.verify(other.sign(b"data", padding.PKCS1v15(), hashes.SHA256()), b"data")
    on_curve = ec.generate_private_key(ec.SECP521R1())
    third = keyring.import_public_key(on_curve.public_key(), label="521")
    assert third.public_key() == on_curve.public_key()
    with pytest.raises(BadInput, match="no public key"):
        keyring.import_public_key(b"nothing")
    with pytest.raises(BadInput, match="private key where"):
        keyring.import_public_key(b"-----BEGIN PRIVATE KEY-----")


def test_a_certificate_is_signed_stored_and_found_with_its_key(keyring: Keyring) -> None:
    signer = keyring.generate_key_pair(label="web").private.for_cryptography()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, signer.public_key(), 1, now, now + timedelta(days=1))
    ).sign(signer, hashes.SHA256())
    made.verify_directly_issued_by(made)
    keyring.import_certificate(made, label="web")
    keyring.import_certificate(
        made.public_bytes(serialization.Encoding.PEM), label="pem", key_id=b"9"
    )
    (found,) = keyring.search(object_class=Cko.CERTIFICATE, label="web")
    assert isinstance(found, Certificate)
    assert found.load() == keyring.certificate("pem").load() == made
    digest = x509.SubjectKeyIdentifier.from_public_key(made.public_key()).digest
    assert found.id == digest
    with pytest.raises(BadInput, match="no certificate"):
        keyring.import_certificate(b"nothing")


def test_a_keyring_is_open_within_its_block_only(client: Client) -> None:
    (token,) = client.tokens()
    keyring = client.keyring(token.slot, PASSWORD.decode())
    with pytest.raises(NotAllowed, match="is not open"):
        keyring.search()
    with keyring:
        key = keyring.generate_key_pair(token=False).private
    with pytest.raises(NotAllowed, match="is not open"):
        keyring.info()
    with pytest.raises(NotAllowed, match="opened before"):
        keyring.open()
    with pytest.raises(CredentialRefused) as refused:
        key.sign(b"data")
    assert refusal_of(refused) is Ckr.USER_NOT_LOGGED_IN
    with client.keyring(token.label) as public:
        assert public.search() == []
        assert public.session.role is None
    with pytest.raises(NotFound), client.keyring("nobody"):
        raise AssertionError


def test_c21_a_wrong_password_counts_once(client: Client) -> None:
    (token,) = client.tokens()
    with pytest.raises(CredentialRefused) as refused, client.keyring(token.label, "wrong password"):
        raise AssertionError
    assert refusal_of(refused) is Ckr.PIN_INCORRECT
    with client.keyring(token.label) as keyring:
        assert keyring.info().failed_attempts == 1
    with client.keyring(token.label, PASSWORD) as keyring:
        assert keyring.info().failed_attempts == 0


def test_c14_a_key_that_asks_for_the_password_each_time_gets_it_each_time(
    keyring: Keyring,
) -> None:
    pair = keyring.generate_key_pair("RSA-2048", label="asks", attributes=ASKING)
    key = keyring.private_key("asks")
    for uses in (2, 1):
        for _ in range(uses):
            pair.public.verify(key.sign(b"data", password=PASSWORD), b"data")
        for use in (key.sign, key.sign_digest, key.decrypt):
            with pytest.raises(CredentialRefused, match="'asks' asks for the password") as refused:
                use(bytes(32))
            assert refusal_of(refused) is Ckr.USER_NOT_LOGGED_IN
    digest = hashlib.sha256(b"data").digest()
    pair.public.verify(key.sign_digest(digest, password=PASSWORD.decode()), b"data")
    sealed = pair.public.encrypt(b"secret")
    assert key.decrypt(sealed, password=PASSWORD) == b"secret"
    with pytest.raises(CredentialRefused) as wrong:
        key.sign(b"data", password="wrong password")
    assert refusal_of(wrong) is Ckr.PIN_INCORRECT
    assert keyring.info().failed_attempts == 1
    pair.public.verify(key.sign(b"data", password=PASSWORD), b"data")
    assert keyring.info().failed_attempts == 0
    with pytest.raises(NotAllowed, match="cannot hand on"):
        key.for_cryptography()
    plain = keyring.generate_key_pair(token=False).private
    with pytest.raises(BadInput) as needless:
        plain.sign(b"data", password=PASSWORD)
    assert refusal_of(needless) is Ckr.ARGUMENTS_BAD


def test_c14_tasks_prove_the_password_each_for_its_own_use(owner: Owner) -> None:
    async def scenario() -> None:
        async with AsyncClient.from_environment(owner.environment) as client:
            (token,) = await client.tokens()
            async with client.keyring(token.label, PASSWORD) as keyring:
                pair = await keyring.generate_key_pair("P-256", token=False, attributes=ASKING)
                uses = (pair.private.sign(bytes([n]), password=PASSWORD) for n in range(4))
                signatures = await asyncio.gather(*uses)
                for number, signature in enumerate(signatures):
                    await pair.public.verify(signature, bytes([number]))
                with pytest.raises(CredentialRefused):
                    await pair.private.sign(b"data")

    asyncio.run(scenario())


def test_a_name_that_is_no_kind_is_told_all_kinds(keyring: Keyring) -> None:
    name = cast(PairName, "RSA-1")
    with pytest.raises(BadInput, match=r"one of RSA-2048, .*; it is 'RSA-1'"):
        keyring.generate_key_pair(name)


def test_threads_share_a_keyring(keyring: Keyring) -> None:
    pair = keyring.generate_key_pair(token=False)
    texts = [f"text {number}".encode() for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(pair.private.sign, texts))
    for text, signature in zip(texts, signatures, strict=True):
        pair.public.verify(signature, text)
    with pytest.raises(ConclaveError):
        pair.public.verify(signatures[0], texts[1])


def test_tasks_share_a_keyring(owner: Owner) -> None:
    async def scenario() -> None:
        async with AsyncClient.from_environment(owner.environment) as client:
            (token,) = await client.tokens()
            async with client.keyring(token.label, PASSWORD) as keyring:
                pair = await keyring.generate_key_pair(label="many")
                key = await keyring.private_key("many")
                texts = [f"text {number}".encode() for number in range(200)]
                signatures = await asyncio.gather(*(key.sign(text) for text in texts))
                public = await key.public_key()
                assert isinstance(public, ec.EllipticCurvePublicKey)
                for text, halves in zip(texts, signatures, strict=True):
                    r, s = int.from_bytes(halves[:32]), int.from_bytes(halves[32:])
                    encoded = utils.encode_dss_signature(r, s)
                    public.verify(encoded, text, ec.ECDSA(hashes.SHA256()))
                with pytest.raises(InvalidSignature):
                    public.verify(encoded, b"other", ec.ECDSA(hashes.SHA256()))
                found = await keyring.search()
                assert {type(each) for each in found} >= {AsyncPrivateKey}
                await keyring.destroy([pair.public, pair.private])
                assert await keyring.search() == []

    asyncio.run(scenario())
