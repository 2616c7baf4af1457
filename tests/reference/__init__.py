"""Slow, obvious oracles that the tests compare the library with."""
