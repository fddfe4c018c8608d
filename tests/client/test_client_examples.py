"""The examples of docs/python-client.md, each run as it stands against real members."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from conclave.client import Cka, Cko, Client, Keyring
from tests.client.conftest import Owner
from tests.service.conftest import Tenant, make_tenant
from tests.support.cluster_bench import PASSWORD
from tests.support.second_member import SecondMember
from tests.support.worker_bench import worker_bench

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = Path(__file__).parents[2] / "docs/python-client.md"
LINES = 30
SECONDS = 240.0


@dataclass
class Stage:
    """A keyring, with a key pair `key` in it, for the examples of a module."""

    owner: Owner
    label: str
    keyring: Keyring

    def run(self, name: str, *words: str, expect: int = 0) -> str:
        """Run an example; return what it says, or what it complains of."""
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), self.label, *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.owner.environment,
            cwd=self.owner.directory,
        )
        assert done.returncode == expect, (words, done.stdout, done.stderr)
        return done.stderr if expect else done.stdout

    def file(self, name: str) -> Path:
        return self.owner.directory / name

    def check(self, halves: bytes, data: bytes) -> None:
        check(self.keyring.public_key("key").public_key(), halves, data)


def check(key: object, halves: bytes, data: bytes) -> None:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(halves[:32]), int.from_bytes(halves[32:])
    key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


@pytest.fixture(scope="module")
def stage(owner: Owner) -> Iterator[Stage]:
    with Client.from_environment(owner.environment) as client:
        (token,) = client.tokens()
        with client.keyring(token.label, PASSWORD) as keyring:
            keyring.generate_key_pair("P-256", label="key", public_attributes={Cka.PRIVATE: False})
            yield Stage(owner, token.label, keyring)


def test_each_example_is_short_listed_and_run_here() -> None:
    examples = sorted(EXAMPLES.glob("*.py"))
    assert len(examples) == 10
    here, page = Path(__file__).read_text(), PAGE.read_text()
    for example in examples:
        assert len(example.read_text().splitlines()) <= LINES, example.name
        assert f'"{example.name}"' in here, example.name
        assert f"(../examples/{example.name})" in page, example.name


@pytest.mark.system
def test_a_file_is_signed_and_verified(stage: Stage) -> None:
    stage.file("letter").write_bytes(b"text" * 400_000)
    assert stage.run("sign_file.py", "key", "letter") == "letter.sig: 64 bytes\n"
    stage.check(stage.file("letter.sig").read_bytes(), b"text" * 400_000)
    assert "is right" in stage.run("verify_file.py", "key", "letter")
    stage.file("letter").write_bytes(b"another")
    assert "is WRONG" in stage.run("verify_file.py", "key", "letter", expect=1)


@pytest.mark.system
def test_a_file_is_sealed_and_unsealed(stage: Stage) -> None:
    stage.file("plain").write_bytes(b"text")
    stage.run("seal_file.py", "seal", "plain", "sealed")
    stage.run("seal_file.py", "unseal", "sealed", "again")
    assert stage.file("again").read_bytes() == b"text"
    assert len(stage.file("sealed").read_bytes()) == 4 + 12 + 16
    assert len(stage.keyring.search(label="files")) == 1


@pytest.mark.system
def test_keys_are_generated_and_listed(stage: Stage) -> None:
    listed = stage.run("generate_and_list.py", "fresh")
    for kind in ("PublicKey    EC  ", "PrivateKey   EC  ", "SecretKey    AES "):
        assert f"{kind}     'fresh'" in listed
    assert len(stage.keyring.search(label="fresh")) == 3


@pytest.mark.system
def test_many_signatures_are_made_at_once(stage: Stage) -> None:
    assert stage.run("many_signatures.py", "300").startswith("300 signatures in ")


@pytest.mark.system
def test_a_certificate_is_made_with_a_key_of_the_keyring(stage: Stage) -> None:
    stage.run("certificate.py", "web.example", "web.pem")
    made = x509.load_pem_x509_certificate(stage.file("web.pem").read_bytes())
    made.verify_directly_issued_by(made)
    assert stage.keyring.certificate("web.example").load() == made
    assert stage.keyring.private_key("web.example").public_key() == made.public_key()
    assert len(stage.keyring.search(object_class=Cko.CERTIFICATE)) == 1


@pytest.mark.system
def test_a_token_is_signed_by_es256(stage: Stage) -> None:
    text, _dot, signature = stage.run("json_web_token.py", "key", "alice").strip().rpartition(".")
    halves = base64.urlsafe_b64decode(signature + "==")
    stage.check(halves, text.encode())
    with pytest.raises(InvalidSignature):
        stage.check(halves, b"another")
    claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
    assert claims["sub"] == "alice"


@pytest.mark.system
def test_a_key_is_wrapped_and_unwrapped(stage: Stage) -> None:
    assert "24 bytes wrapped; it still opens 'a secret'" in stage.run("wrap_and_unwrap.py")


@pytest.mark.system
def test_threads_share_a_key(stage: Stage) -> None:
    assert "40 signatures by 4 threads, all right" in stage.run("thread_pool.py", "4")


def public_key_of(owner: Owner) -> tuple[str, object]:
    """Return the keyring's label, and the public key of `key`."""
    with Client.from_environment(owner.environment) as client:
        (token,) = client.tokens()
        with client.keyring(token.label, PASSWORD) as keyring:
            return token.label, keyring.public_key("key").public_key()


@pytest.mark.system
def test_signing_goes_on_when_a_member_ends(tmp_path: Path) -> None:
    async def scenario(tenant: Tenant, other: SecondMember) -> None:
        other.replay(tenant.keyring)
        files = tmp_path / "client"
        files.mkdir()
        owner = Owner.of(tenant, files)
        label, public = await asyncio.to_thread(public_key_of, owner)
        example = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / "fail_over.py"),
            label,
            "key",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=owner.environment,
        )
        assert example.stdin is not None
        assert example.stdout is not None
        for number in range(4):
            if number == 2:
                tenant.bench.kill("worker-0")
            line = f"line {number}\n".encode()
            example.stdin.write(line)
            await example.stdin.drain()
            check(public, bytes.fromhex((await example.stdout.readline()).decode()), line)
        example.stdin.close()
        assert await example.wait() == 0

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS), worker_bench(tmp_path) as bench:
            other = SecondMember(bench)
            try:
                other.enrol()
                tenant = await make_tenant(bench)
                await tenant.ec_key(label=b"key")
                other.start()
                await scenario(tenant, other)
            finally:
                other.close()

    asyncio.run(bounded())
