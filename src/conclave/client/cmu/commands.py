"""Carry out cmu's commands on the keyring's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from conclave.client.cmu import attributes, certificates, files, grammar, keys
from conclave.client.handles import handle_of, reference_of
from conclave.client.keyring_login import Logins
from conclave.client.public_keys import certificate_template
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.signing_keys import public_key_of, signing_key
from conclave.client.templates import Value, template, ulong
from conclave.client.tools.faces import Outcome
from conclave.client.tools.grammar import Invocation
from conclave.client.tools.prompts import Cancelled, Prompts
from conclave.crypto.standard import Cka, Cko
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
        name = values.get("inputFile") or self._prompts.question("Enter input file name : ")
        identifier = _identifier(values)
        wanted = files.imported(files.read_file(name), values.get("label", ""), identifier)
        stored = self._logins.session(values).create_object(template(wanted))
        return made((stored.reference, attributes.CLASS_NAMES[Cko(int(wanted[Cka.CLASS]))]))

    # ---- certificates

    def _request(self, values: Mapping[str, str]) -> Outcome:
        subject = certificates.subject_of(self._subject_parts(values))
        name = self._output_file(values)
        session = self._logins.session(values)
        key = signing_key(session, self._signer(session, values))
        files.write_file(name, certificates.request(key, subject, values.get("hash")))
        return Outcome("", {"file": name})

    def _self_sign(self, values: Mapping[str, str]) -> Outcome:
        subject = certificates.subject_of(self._subject_parts(values))
        identifier = _identifier(values)
        if "outputFile" in values:
            files.require_new_file(values["outputFile"])
        session = self._logins.session(values)
        reference = self._signer(session, values)
        signed = certificates.self_signed(
            signing_key(session, reference),
            subject,
            values,
            ca=attributes.boolean("ca", values.get("ca", "F")),
            now=self._now(),
        )
        if identifier is None:
            identifier = session.attributes(reference, [Cka.ID])[Cka.ID] or b""
        label = values.get("label", "")
        stored = session.create_object(template(certificate_template(signed, label, identifier)))
        if "outputFile" in values:
            files.write_file(values["outputFile"], files.exported(session, stored.reference))
        return made((stored.reference, "certificate"))

    # ---- questions

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


def _identifier(values: Mapping[str, str]) -> bytes | None:
    return attributes.hexadecimal("id", values["id"]) if "id" in values else None
