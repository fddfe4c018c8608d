"""Conclave: a software HSM cluster whose keyrings are PKCS#11 tokens."""

__version__ = "0.1.0"
