"""The crypto service: wire, workers, tickets, the shared page, internal channels."""
