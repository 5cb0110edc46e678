"""Deliberate faults, and the test that each is seen to fail with: `bin/test --mutants NAME…`.

A test of a promise, or of the answer to an attack, is worth as much as the faults it finds. Each
stands here as one line of chatd and what replaces it, is put into a copy of the checkout, and must
make its test fail there in the way that is told.
"""
