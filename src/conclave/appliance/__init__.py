"""The appliance daemon: HSM, users, services, and the supervisor of all processes."""
