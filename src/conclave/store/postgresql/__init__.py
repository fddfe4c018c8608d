"""A private PostgreSQL for each member of a cluster: a direct child, reached by Unix socket.

Nothing is imported here: a worker on SQLite takes a few names of one module and needs no other.
"""
