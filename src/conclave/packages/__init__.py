"""Secure packages: how releases come onto an appliance."""
