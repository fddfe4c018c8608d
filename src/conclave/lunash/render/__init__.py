"""How LunaSH lays results out, one module for each family of commands; pure functions."""
