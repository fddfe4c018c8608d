"""What LunaCM, cmu, vtl and multitoken have in common: words, batches, passwords, statuses."""
