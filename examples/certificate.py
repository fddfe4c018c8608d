"""A self-signed certificate of a key in the keyring: certificate.py KEYRING NAME FILE."""

import datetime
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from conclave.client import Client


def main() -> None:
    """Let cryptography build the certificate, and the keyring sign it."""
    keyring_label, common_name, file = sys.argv[1:]
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    pin = os.environ["PIN"]
    with Client.from_environment() as client, client.keyring(keyring_label, pin) as keyring:
        key = keyring.generate_key_pair("P-256", label=common_name).private.for_cryptography()
        serial, end = x509.random_serial_number(), now + datetime.timedelta(days=90)
        builder = x509.CertificateBuilder(name, name, key.public_key(), serial, now, end)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        keyring.import_certificate(pem, label=common_name)
    Path(file).write_bytes(pem)


main()
