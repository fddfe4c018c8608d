"""The HSM: partitions, roles, policies, sealing, and the SMK."""
