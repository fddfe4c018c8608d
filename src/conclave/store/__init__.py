"""The cluster store: one repository, several engines."""
