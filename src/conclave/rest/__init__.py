"""The REST doors: sessions, media types, tasks, errors, OpenAPI and the two listeners."""
