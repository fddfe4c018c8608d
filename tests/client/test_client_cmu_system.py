"""cmu against a real worker; what it writes is judged by OpenSSL."""

from __future__ import annotations

import json
import os
import re
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conclave.client import Client, template
from conclave.client.cmu import certificates
from conclave.client.tools.statuses import Status
from conclave.crypto.standard import Cka, Ckm, Cko
from conclave.service import wire
from tests.client.conftest import Owner, documented
from tests.support.cluster_bench import WRONG
from tests.support.terminal import Terminal

pytestmark = pytest.mark.system
LUNACM = "conclave.client.lunacm.main"
LOGIN = "role login -name co -passwordenv PIN"


def handles(text: str) -> list[str]:
    return re.findall(r"handle=([0-9]+)", text)


def test_keys_are_generated_listed_changed_and_deleted(owner: Owner) -> None:
    made = owner.cmu("generatekeypair", "-keyType=RSA", "-modulusBits=2048", "-label=first")
    public, private = handles(made)
    listed = owner.cmu("list", "-label=first")
    assert set(listed.splitlines()) == {
        f"handle={public}\tlabel=first",
        f"handle={private}\tlabel=first",
    }
    only = owner.cmu("list", "-class=private", "-display=handle,keyType,sign", "-label=first")
    assert only == f"handle={private}\tkeyType=RSA\tsign=true\n"
    owner.cmu("setattribute", f"-handle={private}", "-label=renamed", "-id=0a0b", "-decrypt=F")
    shown = owner.cmu("getattribute", f"-handle={private}").splitlines()
    for line in ("class=privateKey", "label=renamed", "id=0a0b", "decrypt=false", "private=true"):
        assert line in shown
    assert any(line.startswith("modulus=") for line in shown)
    assert not any(line.startswith(("privateExponent=", "prime1=", "value=")) for line in shown)
    for handle in (public, private):
        owner.cmu("delete", f"-handle={handle}", "-force")
    gone = owner.cmu("getattribute", f"-handle={private}", expect=Status.NOT_FOUND)
    assert f"No object that can be seen has the handle {private}." in gone


def test_a_secret_key_is_generated_and_its_value_never_printed(owner: Owner) -> None:
    options = ("-keyType=AES", "-keyLength=24", "-label=aes", "-sensitive=F", "-extractable")
    (handle,) = handles(owner.cmu("generatekey", *options))
    with Client.from_environment(owner.environment) as client:
        session = owner.session(client)
        (reference,) = session.find(template({Cka.LABEL: "aes"}))
        value = session.attributes(reference, [Cka.VALUE])[Cka.VALUE]
    assert value is not None
    assert len(value) == 24
    shown = owner.cmu("getattribute", f"-handle={handle}")
    assert "valueLen=24\n" in shown
    assert value.hex() not in shown
    assert value.hex() not in owner.cmu("list", "-label=aes", "-display=value,label")
    assert "keys are exported" in owner.cmu(
        "export", f"-handle={handle}", "-outputFile=aes.pem", expect=Status.MISUSED
    )
    owner.cmu("delete", f"-handle={handle}", "-force")


@pytest.mark.parametrize(
    ("options", "algorithm"),
    [
        (("-keyType=RSA",), "sha256WithRSAEncryption"),
        (("-keyType=RSA", "-hash=sha512"), "sha512WithRSAEncryption"),
        (("-keyType=ECDSA", "-curvetype=3"), "ecdsa-with-SHA256"),
        (("-keyType=ECDSA", "-curveType=P-384"), "ecdsa-with-SHA384"),
        (("-keyType=ECDSA", "-curveType=5"), "ecdsa-with-SHA512"),
        (("-keyType=EDDSA",), "ED25519"),
    ],
)
def test_openssl_accepts_requests_and_certificates(
    owner: Owner, tmp_path: Path, options: tuple[str, ...], algorithm: str
) -> None:
    of_key = [option for option in options if not option.startswith("-hash")]
    hashed = [option for option in options if option.startswith("-hash")]
    public, private = handles(owner.cmu("generatekeypair", *of_key, "-label=ca", "-id=77"))
    signer = (f"-privateHandle={private}", f"-publichandle={public}", *hashed)
    subject = ("-C=DE", "-S=Hessen", "-L=Darmstadt", "-O=Lab", "-OU=Keys", "-CN=lab.test")
    request, certificate = str(tmp_path / "request.pem"), str(tmp_path / "certificate.pem")
    owner.cmu("requestcertificate", *signer, *subject, "-E=a@b.de", f"-outputFile={request}")
    text = owner.openssl("req", "-in", request, "-verify", "-noout", "-text")
    assert f"Signature Algorithm: {algorithm}" in text
    assert "C = DE, ST = Hessen, L = Darmstadt, O = Lab, OU = Keys, CN = lab.test" in text
    made = owner.cmu(
        *("selfsigncertificate", *signer, *subject, "-ca", "-label=ca", "-serialNumber=00a1"),
        *("-startDate=20250101", "-endDate=20991231", f"-outputFile={certificate}"),
    )
    owner.openssl("verify", "-check_ss_sig", "-CAfile", certificate, certificate)
    text = owner.openssl("x509", "-in", certificate, "-noout", "-text")
    for line in (f"Signature Algorithm: {algorithm}", "CA:TRUE", "(0xa1)", "Dec 31 00:00:00 2099"):
        assert line in text
    (stored,) = handles(made)
    shown = owner.cmu("getattribute", f"-handle={stored}").splitlines()
    for line in ("class=certificate", "serialNumber=020200a1", "id=77", "label=ca"):
        assert line in shown
    exported = str(tmp_path / "exported.pem")
    owner.cmu("export", f"-handle={stored}", f"-outputFile={exported}")
    assert Path(exported).read_text() == Path(certificate).read_text()
    for handle in (public, private, stored):
        owner.cmu("delete", f"-handle={handle}", "-force")


def test_certificates_and_public_keys_of_openssl_are_imported(owner: Owner, tmp_path: Path) -> None:
    for number, kind in enumerate(("rsa:2048", "ec", "ed25519")):
        key, certificate = str(tmp_path / f"{number}.key"), str(tmp_path / f"{number}.pem")
        curve = ("-pkeyopt", "ec_paramgen_curve:P-384") if kind == "ec" else ()
        owner.openssl(
            *("req", "-x509", "-newkey", kind, *curve, "-nodes", "-keyout", key),
            *("-subj", "/CN=theirs", "-out", certificate),
        )
        public, back = str(tmp_path / f"{number}.pub"), str(tmp_path / f"{number}.back")
        owner.openssl("pkey", "-in", key, "-pubout", "-out", public)
        stored = handles(owner.cmu("import", f"-inputFile={public}", "-label=theirs"))
        stored += handles(owner.cmu("import", f"-inputFile={certificate}", "-label=theirs"))
        for handle, original in zip(stored, (public, certificate), strict=True):
            owner.cmu("export", f"-handle={handle}", f"-outputFile={back}")
            assert Path(back).read_text() == Path(original).read_text()
            Path(back).unlink()
        identifiers = {
            line.split("\t")[1]
            for line in owner.cmu("list", "-label=theirs", "-display=id").splitlines()
        }
        assert len(identifiers) == 1, "a certificate is found by the id of its key"
        refused = owner.cmu("import", f"-inputFile={key}", expect=Status.MISUSED)
        assert "holds a private key" in refused
        for handle in stored:
            owner.cmu("delete", f"-handle={handle}", "-force")


@pytest.mark.parametrize("curve", ["X25519", "X448"])
def test_keys_that_agree_on_secrets_are_exported_and_imported(
    owner: Owner, tmp_path: Path, curve: str
) -> None:
    made = handles(owner.cmu("gen", "-keyType=X25519", f"-curveType={curve}", "-derive"))
    halves = []
    for handle in made:
        file = tmp_path / f"{handle}.pem"
        owner.cmu("export", f"-handle={handle}", f"-outputFile={file}")
        halves.append(file.read_text())
    assert halves[0] == halves[1]
    assert f"{curve} Public-Key" in owner.openssl("pkey", "-pubin", "-text", "-in", str(file))
    private = str(tmp_path / "theirs.key")
    owner.openssl("genpkey", "-algorithm", curve, "-out", private)
    theirs = owner.openssl("pkey", "-in", private, "-pubout")
    made += (stored := handles(owner.cmu("importkey", f"-in={private}", "-derive")))
    assert len(stored) == 2, "the public key as well"
    for handle in stored:
        file = tmp_path / f"{handle}.pem"
        owner.cmu("export", f"-handle={handle}", f"-outputFile={file}")
        assert file.read_text() == theirs
    made += handles(owner.cmu("import", f"-inputFile={file}"))
    for handle in made:
        owner.cmu("delete", f"-handle={handle}", "-force")


@pytest.mark.parametrize(
    ("options", "encoding", "imported"),
    [
        (("RSA", "-pkeyopt", "rsa_keygen_bits:2048"), ("-aes256", "-pass", "env:FILE"), ()),
        (("EC", "-pkeyopt", "ec_paramgen_curve:P-384"), ("-outform", "DER"), ("-wrapped=F",)),
        (("ED448",), (), ("-public=F", "-id=0102")),
    ],
)
def test_private_keys_of_openssl_are_imported(
    owner: Owner,
    tmp_path: Path,
    options: tuple[str, ...],
    encoding: tuple[str, ...],
    imported: tuple[str, ...],
) -> None:
    key, request = str(tmp_path / "theirs.key"), str(tmp_path / "theirs.csr")
    environment = {**owner.environment, "FILE": "of the file", "WRONG": "another one"}
    person = Owner(environment, owner.directory)
    person.openssl("genpkey", "-algorithm", *options, *encoding, "-out", key)
    if "-aes256" in encoding:
        wrong = ("importkey", f"-in={key}", "-filepasswordenv=WRONG")
        assert "or the file's password is wrong" in person.cmu(*wrong, expect=Status.MISUSED)
        person.cmu("importkey", f"-in={key}", expect=Status.CANCELLED)
        imported = (*imported, "-filepasswordenv=FILE")
    stored = handles(person.cmu("importkey", f"-in={key}", "-label=theirs", *imported))
    assert len(stored) == (1 if "-public=F" in imported else 2)
    shown = person.cmu("getattribute", f"-handle={stored[0]}").splitlines()
    for line in ("class=privateKey", "sensitive=true", "extractable=false", "local=false"):
        assert line in shown
    assert ("id=0102" in shown) == ("-id=0102" in imported)
    person.cmu("req", f"-privateHandle={stored[0]}", "-CN=theirs", f"-outputFile={request}")
    asked = person.openssl("req", "-in", request, "-verify", "-noout", "-pubkey")
    form = ("-inform", "DER") if "DER" in encoding else ()
    theirs = person.openssl("pkey", "-in", key, *form, "-passin", "env:FILE", "-pubout")
    assert asked.strip().endswith(theirs.strip())
    for handle in stored:
        person.cmu("delete", f"-handle={handle}", "-force")


def test_secret_keys_are_imported_as_they_are(owner: Owner, tmp_path: Path) -> None:
    value = os.urandom(32)
    forms = {"raw": value, "hex": value.hex().encode() + b"\n", "base64": b64encode(value) + b"\n"}
    for form, content in forms.items():
        (tmp_path / form).write_bytes(content)
        file = (f"-in={tmp_path / form}", f"-format={form}", "-keyalg=AES", f"-label={form}")
        (handle,) = handles(owner.cmu("importkey", *file))
        with Client.from_environment(owner.environment) as client:
            session = owner.session(client)
            (reference,) = session.find(template({Cka.LABEL: form}))
            parameter = wire.GcmParameter(bytes(12), b"", 128)
            sealed = session.encrypt(reference, Ckm.AES_GCM, b"text", parameter=parameter)
        assert AESGCM(value).decrypt(bytes(12), sealed, b"") == b"text"
        owner.cmu("delete", f"-handle={handle}", "-force")
    owner.openssl("genpkey", "-algorithm", "ED25519", "-out", str(tmp_path / "pair"))
    before = owner.cmu("list")
    refused = owner.cmu("importkey", f"-in={tmp_path / 'pair'}", "-private=F", expect=Status.FAILED)
    assert "CKR_ATTRIBUTE_VALUE_INVALID" in refused
    assert owner.cmu("list") == before, "no public key stays alone"
    for words, complaint in (
        (("-format=hex", "-keyalg=AES"), "does not hold a key as hex"),
        (("-format=raw", "-keyalg=RSA"), "names no secret key"),
        (("-format=pem", "-keyalg=AES"), "-format is one of pkcs8, raw, hex, base64"),
        ((), "no private key that can be read"),
    ):
        refused = owner.cmu("importkey", f"-in={tmp_path / 'raw'}", *words, expect=Status.MISUSED)
        assert complaint in refused


def test_a_ca_in_the_keyring_certifies_what_openssl_verifies(owner: Owner, tmp_path: Path) -> None:
    root, key, request = (str(tmp_path / name) for name in ("root.pem", "server.key", "server.csr"))
    certificate = str(tmp_path / "server.pem")
    _, private = handles(owner.cmu("gen", "-keyType=ECDSA", "-label=root"))
    authority = ("-ca", "-pathLength=0", "-endDate=20991231", f"-outputFile={root}")
    subject = ("-O=Lab", "-CN=Lab Root")
    (stored,) = handles(owner.cmu("self", f"-privateHandle={private}", *subject, *authority))
    owner.openssl(
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request),
        *("-subj", "/CN=www.lab.test", "-addext", "subjectAltName=DNS:www.lab.test"),
    )
    asked = (f"-issuerHandle={stored}", f"-in={request}")
    more = ("-eku=serverAuth", "-keyUsage=digitalSignature,keyEncipherment", "-store", "-label=www")
    (kept,) = handles(owner.cmu("certify", *asked, *more, f"-outputFile={certificate}"))
    owner.openssl(
        *("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.lab.test"),
        *("-CAfile", root, certificate),
    )
    shown = owner.cmu("getattribute", f"-handle={kept}", "-attributes=label,class")
    assert shown == "label=www\nclass=certificate\n"
    named, out = str(tmp_path / "named.pem"), str(tmp_path / "out.pem")
    owner.cmu("certify", *asked, "-san=other.test,IP:::1,email:a@lab.test", f"-outputFile={named}")
    text = owner.openssl("x509", "-in", named, "-noout", "-ext", "subjectAltName")
    assert "DNS:other.test, IP Address:0:0:0:0:0:0:0:1, email:a@lab.test" in text
    der = bytearray(b64decode(b"".join(Path(request).read_bytes().splitlines()[1:-1])))
    der[-1] ^= 1
    Path(key).write_bytes(der)
    (plain,) = handles(owner.cmu("self", f"-privateHandle={private}", "-CN=no CA"))
    for words, complaint in (
        ((*asked, "-ca"), "The CA's path length is 0"),
        ((*asked, "-endDate=21000101"), "must lie within that of the CA's certificate"),
        ((*asked, "-keyUsage=keyCertSign"), "goes with -ca only"),
        ((f"-issuerHandle={kept}", f"-in={request}"), "no private key for the certificate"),
        ((f"-issuerHandle={stored}", f"-in={key}"), "signature is not by the key"),
        ((f"-issuerHandle={stored}", f"-in={certificate}"), "no certificate request"),
        ((f"-issuerHandle={plain}", f"-in={request}"), "none of a CA"),
    ):
        refused = owner.cmu("certify", *words, f"-outputFile={out}", expect=Status.MISUSED)
        assert complaint in refused
    assert not Path(out).exists()
    owner.run(LUNACM, "-q", "-c", LOGIN, "-c", "partition clear -force")


def test_requests_and_certificates_by_ml_dsa(owner: Owner, tmp_path: Path) -> None:
    root, leaf, request = (str(tmp_path / name) for name in ("root", "leaf", "request"))
    _, private = handles(owner.cmu("gen", "-keyType=MLDSA", "-parameterSet=44", "-label=pq"))
    signer = (f"-privateHandle={private}", "-CN=pq")
    (stored,) = handles(owner.cmu("self", *signer, "-ca", f"-outputFile={root}"))
    owner.cmu("req", *signer, "-san=pq.test", f"-outputFile={request}")
    asked = x509.load_pem_x509_csr(Path(request).read_bytes())
    assert asked.is_signature_valid
    owner.cmu("certify", f"-issuerHandle={stored}", f"-in={request}", f"-outputFile={leaf}")
    issuer, issued = (x509.load_pem_x509_certificate(Path(p).read_bytes()) for p in (root, leaf))
    issued.verify_directly_issued_by(issuer)
    assert isinstance(issued.public_key(), mldsa.MLDSA44PublicKey)
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pq.test"]
    refused = ("req", *signer, "-hash=sha256", f"-outputFile={tmp_path / 'none'}")
    assert "has its own" in owner.cmu(*refused, expect=Status.MISUSED)
    (again,) = handles(owner.cmu("import", f"-inputFile={leaf}", "-label=again"))
    pem = str(tmp_path / "pem")
    owner.cmu("export", f"-handle={again}", f"-outputFile={pem}")
    assert Path(pem).read_bytes() == Path(leaf).read_bytes()
    owner.run(LUNACM, "-q", "-c", LOGIN, "-c", "partition clear -force")


def test_a_keyring_proves_that_it_keeps_and_uses_a_key(owner: Owner) -> None:
    before = owner.cmu("list")
    seen = json.loads(owner.cmu("verifyhsm", "-challenge=0a0b", "-json"))["result"]
    assert seen["challenge"] == "0a0b"
    assert len(bytes.fromhex(seen["signature"])) == 64
    certificate = x509.load_pem_x509_certificate((owner.directory / "authority.pem").read_bytes())
    assert seen["caSha256"] == certificate.fingerprint(hashes.SHA256()).hex()
    assert owner.cmu("list") == before, "the key was a session object"
    assert "1 to 1024 bytes" in owner.cmu("verifyhsm", "-challenge=", expect=Status.MISUSED)


def test_a_batch_has_one_login_and_ends_at_the_first_failure(owner: Owner) -> None:
    batch = (
        *("generatekey", "-label=batch", "-passwordenv=PIN", "--", "list", "-label=batch"),
        *("--", "getattribute", "-handle=1", "--", "list"),
    )
    done = owner.run("conclave.client.cmu.main", *batch, expect=Status.NOT_FOUND)
    (made, listed) = handles(done.stdout)
    assert made == listed
    assert done.stderr == (
        "Error: No object that can be seen has the handle 1. (CKR_OBJECT_HANDLE_INVALID)\n"
        "cmu list shows the objects that there are.\n"
    )
    lines = f"delete -passwordenv=PIN\n{made}\nno\n"
    kept = owner.run("conclave.client.cmu.main", lines=lines, expect=Status.CANCELLED)
    assert kept.stderr == "Cancelled: nothing was done.\n"
    owner.run("conclave.client.cmu.main", lines=lines.replace("no\n", "yes\n"))
    assert owner.cmu("list", "-label=batch") == ""


def test_passwords_come_from_a_descriptor_or_a_prompt(owner: Owner) -> None:
    pin = owner.environment["PIN"]
    main = "conclave.client.cmu.main"
    owner.run(main, "list", "-passwordfd=0", lines=f"{pin}\n")
    owner.run(main, "list", lines=f"{pin}\n")
    owner.run(main, "list", expect=Status.CANCELLED)
    refused = owner.run(main, "list", lines=f"{WRONG.decode()}\n", expect=Status.CREDENTIAL)
    assert "CKR_PIN_INCORRECT" in refused.stderr
    assert WRONG.decode() not in refused.stderr
    nowhere = {**owner.environment, "ChrystokiConfigurationPath": "/nonexistent"}
    Owner(nowhere, owner.directory).run(main, "list", expect=Status.NOT_CONFIGURED)


def test_nothing_is_made_when_the_file_is_there_already(owner: Owner, tmp_path: Path) -> None:
    _, private = handles(owner.cmu("gen", "-keyType=ECDSA", "-label=file"))
    taken = tmp_path / "taken.pem"
    taken.write_text("mine")
    for command in ("requestcertificate", "selfsigncertificate"):
        options = (f"-privateHandle={private}", "-O=taken", f"-outputFile={taken}")
        assert "is there already" in owner.cmu(command, *options, expect=Status.MISUSED)
    assert taken.read_text() == "mine"
    with Client.from_environment(owner.environment) as client:
        subject = certificates.subject_of({"O": "taken"}).public_bytes()
        assert owner.session(client).find(template({Cka.SUBJECT: subject})) == []
    other, _ = handles(owner.cmu("gen", "-keyType=ECDSA", "-label=file"))
    wrong = (f"-privateHandle={private}", f"-publicHandle={other}", "-CN=x")
    assert "different pairs" in owner.cmu("self", *wrong, expect=Status.MISUSED)
    with Client.from_environment(owner.environment) as client:
        session = owner.session(client)
        for reference in session.find(template({Cka.LABEL: "file"})):
            session.destroy_object(reference)
        assert session.find(template({Cka.CLASS: Cko.PRIVATE_KEY, Cka.LABEL: "file"})) == []


def test_the_documentation_s_script_does_what_it_says(owner: Owner) -> None:
    text = owner.shell(documented("cmu"))
    assert "label=server\nkeyType=EC\nsign=true\nextractable=false\n" in text
    owner.openssl("req", "-in", "server.csr", "-verify", "-noout")
    owner.openssl("verify", "-CAfile", "server.pem", "server.pem")
    assert owner.cmu("list", "-label=web") == ""
    left = handles(owner.cmu("list", "-label=server"))
    assert len(left) == 2
    for handle in left:
        owner.cmu("delete", f"-handle={handle}", "-force")


def test_the_documentation_s_ca_does_what_it_says(owner: Owner) -> None:
    text = owner.shell(documented("cmu", 2))
    assert "mail.pem: OK" in text
    assert json.loads(text.splitlines()[-1])["status"] == 0
    shown = owner.cmu("list", "-label=mail", "-display=class,keyType")
    assert {"privateKey", "publicKey"} == set(re.findall(r"class=(\w+)", shown))
    owner.run(LUNACM, "-q", "-c", LOGIN, "-c", "partition clear -force")


def test_a_person_at_a_terminal_is_asked_and_the_password_is_not_shown(owner: Owner) -> None:
    made, _ = handles(owner.cmu("generatekeypair", "-keyType=ECDSA", "-label=asked"))
    command = [sys.executable, "-m", "conclave.client.cmu.main", "delete"]
    quiet = {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "vt100"}
    with Terminal(command, {**owner.environment, **quiet}) as terminal:
        terminal.wait_for("Please enter password for token in slot")
        terminal.send(f"{owner.environment['PIN']}\r")
        terminal.wait_for("Enter handler (or 0 for exit)")
        terminal.send(f"{made}\r")
        terminal.wait_for("Delete this object? (yes/no)")
        terminal.send("yes\r")
        assert terminal.status() == 0
    assert owner.environment["PIN"] not in terminal.seen
    (left,) = handles(owner.cmu("list", "-label=asked"))
    owner.cmu("delete", f"-handle={left}", "-force")
