"""Long runs: faults under load, with every acknowledged write counted."""
