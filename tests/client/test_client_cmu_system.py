"""cmu against a real worker; what it writes is judged by OpenSSL."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from conclave.client import Client, template
from conclave.client.cmu import certificates
from conclave.client.tools.statuses import Status
from conclave.crypto.standard import Cka, Cko
from tests.client.conftest import Owner, documented
from tests.support.cluster_bench import WRONG
from tests.support.terminal import Terminal

pytestmark = pytest.mark.system


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
