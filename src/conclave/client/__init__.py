"""Client side: library, registration, LunaCM."""
