"""LunaSH: the appliance's shell over SSH, made from the declared operations."""
