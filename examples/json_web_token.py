"""Sign a JSON Web Token by ES256: json_web_token.py KEYRING KEY SUBJECT; PIN from $PIN."""

import base64
import json
import os
import sys
import time

from conclave.client import Client


def encoded(content: bytes) -> str:
    """Return base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def main() -> None:
    """PKCS#11 gives an ECDSA signature as two halves, which is what ES256 wants."""
    keyring_label, key_label, subject = sys.argv[1:]
    claims = {"sub": subject, "iat": int(time.time()), "exp": int(time.time()) + 600}
    parts = ({"alg": "ES256", "typ": "JWT", "kid": key_label}, claims)
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    pin = os.environ["PIN"]
    with Client.from_environment() as client, client.keyring(keyring_label, pin) as keyring:
        print(f"{text}.{encoded(keyring.private_key(key_label).sign(text.encode()))}")


main()
