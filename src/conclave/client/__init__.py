"""The client: library, registration and lunacm.

::

    with Client.from_environment() as client:
        keyring = client.open(client.token("demo1"))
        keyring.login(Role.KRCO, pin)
        (reference,) = keyring.find(template({Cka.LABEL: "demo-ec", Cka.SIGN: True}))
        signature = keyring.sign(reference, Ckm.ECDSA_SHA256, b"data")
"""

from conclave.client.module_path import module_path
from conclave.client.session import Client, KeyringSession
from conclave.client.templates import template
from conclave.service.wire import Role

__all__ = ["Client", "KeyringSession", "Role", "module_path", "template"]
