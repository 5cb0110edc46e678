"""Benchmarks: programs that a person runs, and no part of the tests."""
