"""Commands that are more than one call of one operation, a module for each family."""
