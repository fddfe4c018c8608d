"""Benchmarks: ratios against a named peer in the same run, every score verified."""
