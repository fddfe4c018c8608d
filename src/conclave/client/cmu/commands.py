"""Carry out cmu's commands on the keyring's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.client.cmu import (
    attributes,
    certificates,
    files,
    grammar,
    key_files,
    keys,
    proof,
)
from conclave.client.handles import handle_of, reference_of
from conclave.client.keyring_login import Logins
from conclave.client.public_keys import (
    certificate_template,
    key_identifier,
    public_key_template,
)
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.signing_keys import SigningKey, public_key_of, signing_key
from conclave.client.templates import Value, template, ulong
from conclave.client.tools.faces import Outcome
from conclave.client.tools.grammar import Invocation
from conclave.client.tools.prompts import Cancelled, Prompts
from conclave.client.tools.statuses import Status, status_of
from conclave.crypto.standard import Cka, Cko
from conclave.errors import ConclaveError
from conclave.keyring.attributes import EVER_SECRET, KEY_CLASSES
from conclave.service.wire import MAX_TEMPLATE_ATTRIBUTES

SUBJECT_QUESTIONS: Final = {
    "C": "Enter Subject 2-letter Country Code (C) : ",
    "S": "Enter Subject State or Province Name (S) : ",
    "L": "Enter Subject Locality Name (L) : ",
    "O": "Enter Subject Organization Name (O) : ",
    "OU": "Enter Subject Organization Unit Name (OU) : ",
    "CN": "Enter Subject Common Name (CN) : ",
    "E": "Enter EMAIL Address (E) : ",
}
_DISPLAYED: Final = (Cka.LABEL,)
_SET: Final = ("label", "id", *keys.USES, "sensitive", "extractable", "startDate", "endDate")


class Desk:
    """One run of cmu; its logins serve all commands of a batch."""

    def __init__(self, logins: Logins, prompts: Prompts, now: Callable[[], datetime]) -> None:
        self._logins = logins
        self._prompts = prompts
        self._now = now
        self._handlers: dict[str, Callable[[Mapping[str, str]], Outcome]] = {
            "generatekeypair": self._generate_pair,
            "generatekey": self._generate_key,
            "list": self._list,
            "getattribute": self._get,
            "setattribute": self._set,
            "delete": self._delete,
            "export": self._export,
            "import": self._import,
            "importkey": self._import_key,
            "certify": self._certify,
            "verifyhsm": self._verify,
            "requestcertificate": self._request,
            "selfsigncertificate": self._self_sign,
        }

    def parse(self, words: Sequence[str]) -> Invocation:
        """Return what the words ask for; raise BadInput."""
        return grammar.parse(words)

    def carry_out(self, invocation: Invocation) -> Outcome:
        """Do what was asked for; raise an error of the tree, or Cancelled."""
        if invocation.command.name == "help":
            text = grammar.help_text(invocation.rest)
            return Outcome(text, {"text": text})
        return self._handlers[invocation.command.name](invocation.values)

    # ---- keys

    def _generate_pair(self, values: Mapping[str, str]) -> Outcome:
        if "keyType" not in values:
            asked = self._prompts.question("Enter key type (RSA, ECDSA, EDDSA) : ")
            values = {**values, "keyType": asked}
        plan = keys.plan_pair(values)
        public, private = self._logins.session(values).generate_key_pair(
            plan.mechanism, template(plan.public), template(plan.private)
        )
        return made((public.reference, "publicKey"), (private.reference, "privateKey"))

    def _generate_key(self, values: Mapping[str, str]) -> Outcome:
        mechanism, wanted = keys.plan_key(values)
        key = self._logins.session(values).generate_key(mechanism, template(wanted))
        return made((key.reference, "secretKey"))

    # ---- objects

    def _list(self, values: Mapping[str, str]) -> Outcome:
        wanted = _searched(values)
        display: tuple[Cka, ...] = _DISPLAYED
        if "display" in values:
            names = [name for name in values["display"].split(",") if name.lower() != "handle"]
            display = attributes.attributes_named(",".join(names)) if names else ()
        session = self._logins.session(values)
        rows = _rows(session, session.find(template(wanted)), display)
        return Outcome(_lines(rows), {"objects": rows})

    def _get(self, values: Mapping[str, str]) -> Outcome:
        wanted: tuple[Cka, ...] = attributes.READABLE
        if "attributes" in values:
            wanted = attributes.attributes_named(values["attributes"])
        session = self._logins.session(values)
        reference = self._chosen(session, values)
        found = _readable(session, reference, wanted)
        shown = {
            attributes.name_of_attribute(number): attributes.shown(number, value)
            for number in wanted
            if (value := found.get(number)) is not None
        }
        text = "\n".join(f"{name}={value}" for name, value in shown.items())
        return Outcome(text, {"handle": handle_of(reference), "attributes": shown})

    def _set(self, values: Mapping[str, str]) -> Outcome:
        changes = attributes.given(values, *_SET)
        if not changes:
            raise misused(f"setattribute needs one of -{', -'.join(_SET)}.")
        session = self._logins.session(values)
        reference = self._chosen(session, values)
        session.set_attributes(reference, template(changes))
        return Outcome("", {"handle": handle_of(reference)})

    def _delete(self, values: Mapping[str, str]) -> Outcome:
        session = self._logins.session(values)
        reference = self._chosen(session, values)
        if "force" not in values:
            row = _lines(_rows(session, [reference], _DISPLAYED))
            text = f"{row}\nDelete this object? (yes/no) : "
            if self._prompts.question(text).strip().lower() not in {"y", "yes"}:
                raise Cancelled
        session.destroy_object(reference)
        return Outcome("", {"handle": handle_of(reference)})

    # ---- files

    def _export(self, values: Mapping[str, str]) -> Outcome:
        name = self._output_file(values)
        session = self._logins.session(values)
        reference = self._chosen(session, values)
        files.write_file(name, files.exported(session, reference))
        return Outcome("", {"handle": handle_of(reference), "file": name})

    def _import(self, values: Mapping[str, str]) -> Outcome:
        identifier = _identifier(values)
        wanted = files.imported(
            files.read_file(self._input_file(values)), values.get("label", ""), identifier
        )
        stored = self._logins.session(values).create_object(template(wanted))
        return made((stored.reference, attributes.CLASS_NAMES[Cko(int(wanted[Cka.CLASS]))]))

    def _import_key(self, values: Mapping[str, str]) -> Outcome:
        key = self._key_file(values)
        identifier = _identifier(values)
        if identifier is None:
            identifier = b"" if key.public is None else key_identifier(key.public)
        wanted = key_files.key_template(key, values, identifier)
        session = self._logins.session(values)
        wrapped = attributes.boolean("wrapped", values.get("wrapped", "T"))
        store = key_files.store_wrapped if wrapped else key_files.store_in_clear
        others = _public_half(session, key, values, identifier)
        try:
            reference = store(session, key, wanted)
        except ConclaveError as error:
            if status_of(error) is not Status.OUTCOME_UNKNOWN:
                # Nothing was stored, so no public key stays alone.
                for other, _kind in others:
                    session.destroy_object(other)
            raise
        return made((reference, attributes.CLASS_NAMES[key.object_class]), *others)

    def _key_file(self, values: Mapping[str, str]) -> key_files.KeyFile:
        form = values.get("format", "pkcs8").lower()
        if form not in key_files.FORMATS:
            raise misused(f"Option -format is one of {', '.join(key_files.FORMATS)}.")
        content = files.read_file(self._input_file(values))
        if form != "pkcs8":
            asked = values.get("keyType") or self._prompts.question(
                "Enter key type (AES, GENERIC, SHA256HMAC, ...) : "
            )
            return key_files.read_secret_key_file(content, form, asked)
        password = None
        if key_files.is_encrypted(content):
            password = self._logins.secret(values, "filepassword", "Enter password of the file : ")
        return key_files.read_private_key_file(content, password)

    # ---- certificates

    def _request(self, values: Mapping[str, str]) -> Outcome:
        subject = certificates.subject_of(self._subject_parts(values))
        name = self._output_file(values)
        session = self._logins.session(values)
        key = signing_key(session, self._signer(session, values))
        files.write_file(name, certificates.request(key, subject, values))
        return Outcome("", {"file": name})

    def _self_sign(self, values: Mapping[str, str]) -> Outcome:
        subject = certificates.subject_of(self._subject_parts(values))
        identifier = _identifier(values)
        if "outputFile" in values:
            files.require_new_file(values["outputFile"])
        session = self._logins.session(values)
        reference = self._signer(session, values)
        key = signing_key(session, reference)
        signed = certificates.self_signed(key, subject, values, self._now())
        if identifier is None:
            identifier = session.attributes(reference, [Cka.ID])[Cka.ID] or b""
        label = values.get("label", "")
        stored = session.create_object(template(certificate_template(signed, label, identifier)))
        if "outputFile" in values:
            files.write_file(values["outputFile"], files.exported(session, stored.reference))
        return made((stored.reference, "certificate"))

    def _certify(self, values: Mapping[str, str]) -> Outcome:
        asked = files.read_request(files.read_file(self._input_file(values)))
        name = self._output_file(values)
        session = self._logins.session(values)
        wanted = template({Cka.CLASS: Cko.CERTIFICATE})
        reference = self._object(session, session.find(wanted), values.get("issuerHandle"))
        issuer = files.certificate_of(session, reference)
        key = _key_of(session, issuer)
        signed = certificates.certified(asked, issuer, key, values, self._now())
        files.write_file(name, signed.public_bytes(Encoding.PEM))
        if not attributes.boolean("store", values.get("store", "F")):
            return Outcome("", {"file": name})
        kept = files.stored_certificate(signed, values.get("label", ""), _identifier(values))
        stored = session.create_object(template(kept))
        return made((stored.reference, attributes.CLASS_NAMES[Cko.CERTIFICATE]))

    def _verify(self, values: Mapping[str, str]) -> Outcome:
        given = values.get("challenge")
        challenge = None if given is None else attributes.hexadecimal("challenge", given)
        session = self._logins.session(values)
        seen = proof.prove(session, self._logins.entry(session), challenge)
        return Outcome(seen.lines(), seen.data())

    # ---- questions

    def _input_file(self, values: Mapping[str, str]) -> str:
        return values.get("inputFile") or self._prompts.question("Enter input file name : ")

    def _subject_parts(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the parts of a subject; without any on the command line they are asked for."""
        parts = {name: values[name] for name in SUBJECT_QUESTIONS if name in values}
        if parts:
            return parts
        return {name: self._prompts.question(text) for name, text in SUBJECT_QUESTIONS.items()}

    def _output_file(self, values: Mapping[str, str]) -> str:
        name = values.get("outputFile") or self._prompts.question("Enter output file name : ")
        files.require_new_file(name)
        return name

    def _signer(self, session: KeyringSession, values: Mapping[str, str]) -> bytes:
        private = template({Cka.CLASS: Cko.PRIVATE_KEY})
        reference = self._object(session, session.find(private), values.get("privateHandle"))
        if "publicHandle" in values:
            public = template({Cka.CLASS: Cko.PUBLIC_KEY})
            other = self._object(session, session.find(public), values["publicHandle"])
            if public_key_of(session, other) != public_key_of(session, reference):
                raise misused("Options -publicHandle and -privateHandle are of different pairs.")
        return reference

    def _chosen(self, session: KeyringSession, values: Mapping[str, str]) -> bytes:
        return self._object(session, session.find(), values.get("handle"))

    def _object(
        self, session: KeyringSession, references: Sequence[bytes], given: str | None
    ) -> bytes:
        """Return one of these objects, by the handle that was given or is asked for."""
        if given is None:
            head = "Select object to query\n\n" if references else "There are no objects.\n"
            rows = _lines(_rows(session, references, _DISPLAYED))
            text = f"{head}{rows}\n\nEnter handler (or 0 for exit) : "
            given = self._prompts.question(text).strip()
            if given == "0":
                raise Cancelled
        return reference_of(attributes.number("handle", given), references)


def _searched(values: Mapping[str, str]) -> dict[int, Value]:
    """Return the attributes that listed objects must have."""
    wanted = attributes.given(
        values, "label", "id", *keys.USES, "private", "sensitive", "extractable", "modifiable"
    )
    if "class" in values:
        wanted[Cka.CLASS] = attributes.class_named(values["class"])
    if "keyType" in values:
        wanted[Cka.KEY_TYPE] = attributes.key_type_named(values["keyType"])
    return wanted


def _rows(
    session: KeyringSession, references: Sequence[bytes], display: Sequence[Cka]
) -> list[dict[str, Any]]:
    """Return for each object its handle, and the attributes to display."""
    rows = []
    for reference in references:
        found = _readable(session, reference, display)
        row: dict[str, Any] = {"handle": handle_of(reference)}
        for number in display:
            value = found.get(number)
            text = "" if value is None else attributes.shown(number, value)
            row[attributes.name_of_attribute(number)] = text
        rows.append(row)
    return rows


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join("\t".join(f"{name}={value}" for name, value in row.items()) for row in rows)


def _readable(
    session: KeyringSession, reference: bytes, wanted: Sequence[Cka]
) -> dict[int, bytes | None]:
    """Return these attributes without a key's material, though the keyring may reveal it."""
    if not wanted:
        return {}
    types = list({Cka.CLASS, *wanted})
    found: dict[int, bytes | None] = {}
    for begin in range(0, len(types), MAX_TEMPLATE_ATTRIBUTES):
        found |= session.attributes(reference, types[begin : begin + MAX_TEMPLATE_ATTRIBUTES])
    is_key = ulong(found[Cka.CLASS]) in KEY_CLASSES
    return {
        number: value for number, value in found.items() if not (is_key and number in EVER_SECRET)
    }


def made(*objects: tuple[bytes, str]) -> Outcome:
    """Return the outcome of a command that made these objects, each a reference and its class."""
    rows = [{"handle": handle_of(reference), "class": kind} for reference, kind in objects]
    return Outcome(_lines(rows), {"objects": rows})


def _public_half(
    session: KeyringSession, key: key_files.KeyFile, values: Mapping[str, str], identifier: bytes
) -> list[tuple[bytes, str]]:
    """Store the public key of an imported private one, unless it is not wanted."""
    if key.public is None or not attributes.boolean("public", values.get("public", "T")):
        return []
    wanted = public_key_template(key.public, values.get("label", ""), identifier)
    wanted |= keys.uses(values, Cko.PUBLIC_KEY, key.kind)
    stored = session.create_object(template(wanted))
    return [(stored.reference, attributes.CLASS_NAMES[Cko.PUBLIC_KEY])]


def _key_of(session: KeyringSession, certificate: x509.Certificate) -> SigningKey:
    """Return the private key of a certificate; raise BadInput when the keyring has none."""
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    wanted = template({Cka.CLASS: Cko.PRIVATE_KEY, Cka.PUBLIC_KEY_INFO: info})
    found = session.find(wanted, limit=1)
    if not found:
        raise misused("The keyring has no private key for the certificate of -issuerHandle.")
    return signing_key(session, found[0])


def _identifier(values: Mapping[str, str]) -> bytes | None:
    return attributes.hexadecimal("id", values["id"]) if "id" in values else None
