"""Applications that people run on PKCS#11 tokens sign with a keyring's keys, unpatched."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.conformance import complaints
from tests.support.token import Token

pytestmark = pytest.mark.system

ENGINE_CONFIGURATION = """
openssl_conf = init
[init]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
engine_id = pkcs11
MODULE_PATH = {module}
init = 0
"""

JAVA_PROGRAM = """
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;

public class Sign {
    public static void main(String[] words) throws Exception {
        Provider provider = Security.getProvider("SunPKCS11").configure(words[0]);
        Security.addProvider(provider);
        KeyStore store = KeyStore.getInstance("PKCS11", provider);
        store.load(null, System.getenv("TOKEN_PIN").toCharArray());
        PrivateKey key = (PrivateKey) store.getKey(words[1], null);
        byte[] data = Files.readAllBytes(Path.of(words[2]));
        for (String algorithm : words[3].split(",")) {
            Signature signer = Signature.getInstance(algorithm, provider);
            signer.initSign(key);
            signer.update(data, 0, data.length / 2);
            signer.update(data, data.length / 2, data.length - data.length / 2);
            byte[] made = signer.sign();
            Signature verifier = Signature.getInstance(algorithm);
            verifier.initVerify(store.getCertificate(words[1]));
            verifier.update(data);
            if (!verifier.verify(made)) throw new IllegalStateException(algorithm + " is wrong");
            System.out.println(algorithm + " verified");
        }
    }
}
"""


def failures(report: str) -> set[str]:
    """Return what `pkcs11-tool --test` complains of, without handles."""
    return {re.sub(r"0x[0-9a-f]+|\d+", "N", line) for line in complaints(report)}


def test_pkcs11_tool_test_has_no_failure_that_softhsm2_has_not(
    token: Token, softhsm: Token
) -> None:
    for subject in (token, softhsm):
        subject.generate("rsa:2048", "suite-rsa", os.urandom(8).hex())
        subject.generate("EC:prime256v1", "suite-ec", os.urandom(8).hex())
    ours = token.pkcs11_tool("--test", check=False)
    theirs = softhsm.pkcs11_tool("--test", check=False)
    report = ours.stdout.decode() + ours.stderr.decode()
    yardstick = failures(theirs.stdout.decode() + theirs.stderr.decode())
    assert failures(report) - yardstick == set(), report
    assert "Signatures" in report
    assert ours.returncode <= theirs.returncode


@pytest.mark.parametrize("kind", ["rsa:2048", "EC:prime256v1", "EC:secp384r1", "EC:secp521r1"])
def test_pkcs11_tool_signs_and_openssl_verifies(token: Token, kind: str, tmp_path: Path) -> None:
    label = f"tool-{kind.replace(':', '-')}"
    identifier = label.encode().hex()
    token.generate(kind, label, identifier)
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"to be signed " * 1000)
    mechanism = "SHA256-RSA-PKCS" if kind.startswith("rsa") else "ECDSA-SHA256"
    token.pkcs11_tool(
        *("--sign", "--mechanism", mechanism, "--signature-format", "openssl"),
        *("--id", identifier, "--input-file", str(data), "--output-file", str(signature)),
    )
    public = token.public_key(label, tmp_path)
    token.run(
        *("openssl", "dgst", "-sha256", "-verify", str(public)),
        *("-signature", str(signature), str(data)),
    )
    data.write_bytes(b"something else")
    refused = token.run(
        *("openssl", "dgst", "-sha256", "-verify", str(public)),
        *("-signature", str(signature), str(data)),
        check=False,
    )
    assert refused.returncode != 0


@pytest.mark.parametrize("kind", ["rsa:2048", "EC:prime256v1"])
def test_openssl_engine_signs(token: Token, kind: str, tmp_path: Path) -> None:
    label = f"engine-{kind.split(':', maxsplit=1)[0].lower()}"
    token.generate(kind, label, label.encode().hex())
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(ENGINE_CONFIGURATION.format(module=token.module))
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"signed through the engine")
    uri = f"pkcs11:token={token.label};object={label};type=private;pin-value={token.pin}"
    token.run(
        *("env", f"OPENSSL_CONF={configuration}", "openssl", "dgst", "-sha256"),
        *("-engine", "pkcs11", "-keyform", "engine", "-sign", uri),
        *("-out", str(signature), str(data)),
    )
    token.run(
        *("openssl", "dgst", "-sha256", "-verify", str(token.public_key(label, tmp_path))),
        *("-signature", str(signature), str(data)),
    )


def test_openssl_engine_issues_a_certificate(token: Token, tmp_path: Path) -> None:
    token.generate("EC:prime256v1", "engine-ca", "ca01")
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(
        ENGINE_CONFIGURATION.format(module=token.module)
        + "\n[req]\ndistinguished_name = name\n[name]\n"
    )
    uri = f"pkcs11:token={token.label};object=engine-ca;type=private;pin-value={token.pin}"
    pem = tmp_path / "certificate.pem"
    token.run(
        *("env", f"OPENSSL_CONF={configuration}", "openssl", "req", "-new", "-x509"),
        *("-engine", "pkcs11", "-keyform", "engine", "-key", uri, "-subj", "/CN=lab"),
        *("-days", "2", "-out", str(pem)),
    )
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    certificate.verify_directly_issued_by(certificate)


def test_p11tool_lists_and_signs(token: Token) -> None:
    token.generate("rsa:2048", "gnutls-rsa", "b1")
    url = f"pkcs11:token={token.label};object=gnutls-rsa;type=private"
    listing = token.run(
        *("env", f"GNUTLS_PIN={token.pin}", "p11tool", "--provider", token.module, "--batch"),
        *("--login", "--list-all", f"pkcs11:token={token.label}"),
    )
    assert b"gnutls-rsa" in listing.stdout
    tested = token.run(
        *("env", f"GNUTLS_PIN={token.pin}", "p11tool", "--provider", token.module, "--batch"),
        *("--login", "--test-sign", url),
    )
    report = tested.stdout + tested.stderr
    assert b"ok" in report
    assert b"error" not in report.lower()


def test_ssh_keygen_reads_the_key_that_signs(token: Token, tmp_path: Path) -> None:
    token.generate("rsa:2048", "ssh-rsa", "c1")
    listing = token.run("ssh-keygen", "-D", token.module)
    public = serialization.load_pem_public_key(token.public_key("ssh-rsa", tmp_path).read_bytes())
    wanted = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert wanted.split()[1] in listing.stdout


def test_ssh_keygen_signs_through_the_module(token: Token, tmp_path: Path) -> None:
    """`ssh-keygen -Y sign` asks an agent, and the agent signs with the keyring's key."""
    token.generate("EC:prime256v1", "ssh-ec", "c2")
    public = serialization.load_pem_public_key(token.public_key("ssh-ec", tmp_path).read_bytes())
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "key.pub").write_bytes(line + b"\n")
    (tmp_path / "message").write_bytes(b"signed over ssh")
    (tmp_path / "allowed").write_bytes(b"signer@conclave " + line + b"\n")
    (tmp_path / "askpass").write_text('#!/bin/sh\nprintf "%s\\n" "$TOKEN_PIN"\n')
    (tmp_path / "askpass").chmod(0o700)
    script = (
        'eval "$(ssh-agent -s -P "$(realpath "$1")")" >/dev/null; '
        'trap "ssh-agent -k >/dev/null" EXIT; '
        'ssh-add -s "$1" </dev/null && '
        'ssh-keygen -Y sign -f "$2/key.pub" -n file "$2/message" && '
        'ssh-keygen -Y verify -f "$2/allowed" -I signer@conclave -n file '
        '-s "$2/message.sig" <"$2/message"'
    )
    outcome = token.run(
        *("env", f"SSH_ASKPASS={tmp_path / 'askpass'}", "SSH_ASKPASS_REQUIRE=force", "DISPLAY=:0"),
        *("sh", "-c", script, "sh", token.module, str(tmp_path)),
    )
    assert b"Good" in outcome.stdout


def test_java_signs_with_sunpkcs11(token: Token, tmp_path: Path) -> None:
    token.generate("rsa:2048", "java-rsa", "d1")
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(
        ENGINE_CONFIGURATION.format(module=token.module)
        + "\n[req]\ndistinguished_name = name\n[name]\n"
    )
    uri = f"pkcs11:token={token.label};object=java-rsa;type=private;pin-value={token.pin}"
    der = tmp_path / "certificate.der"
    token.run(
        *("env", f"OPENSSL_CONF={configuration}", "openssl", "req", "-new", "-x509"),
        *("-engine", "pkcs11", "-keyform", "engine", "-key", uri, "-subj", "/CN=java"),
        *("-days", "2", "-outform", "DER", "-out", str(der)),
    )
    token.pkcs11_tool(
        *("--write-object", str(der), "--type", "cert", "--label", "java-rsa", "--id", "d1")
    )
    slot = token.run(
        *("pkcs11-tool", "--module", token.module, "--list-token-slots"), check=True
    ).stdout.decode()
    index = [
        line.split(":", 1)[1].strip() for line in slot.splitlines() if "token label" in line
    ].index(token.label)
    (tmp_path / "p11.cfg").write_text(
        f"name = Conclave\nlibrary = {token.module}\nslotListIndex = {index}\n"
    )
    (tmp_path / "Sign.java").write_text(JAVA_PROGRAM)
    (tmp_path / "data").write_bytes(b"signed by Java " * 50)
    outcome = token.run(
        *("java", str(tmp_path / "Sign.java"), str(tmp_path / "p11.cfg"), "java-rsa"),
        *(str(tmp_path / "data"), "SHA256withRSA,SHA512withRSA"),
    )
    assert outcome.stdout.decode().count("verified") == 2
