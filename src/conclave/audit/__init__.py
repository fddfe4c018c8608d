"""The audit log: who did what to the appliance, from where, and with which result."""
