"""The client: library, registration and lunacm."""

from conclave.client.module_path import module_path
from conclave.client.session import Client, KeyringSession

__all__ = ["Client", "KeyringSession", "module_path"]
