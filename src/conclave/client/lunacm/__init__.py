"""LunaCM: a keyring's owner at the command line."""
