"""A complete installation in one directory."""
