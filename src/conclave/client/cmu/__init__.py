"""cmu: the keyring owner's tool for keys and certificates."""
