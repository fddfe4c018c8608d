"""REST: sessions, media types, tasks, routes made from declared operations."""
