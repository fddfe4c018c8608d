"""Mechanisms as a table, and the keys they work on."""
