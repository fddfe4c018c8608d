"""The link between the members of a cluster: calls, PostgreSQL's tunnel, and the door for joins."""
