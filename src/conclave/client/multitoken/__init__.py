"""multitoken: load on a keyring, with what it gives as it runs."""
