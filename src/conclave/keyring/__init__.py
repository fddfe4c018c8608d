"""Keyrings: roles, lockout, objects, attributes."""
