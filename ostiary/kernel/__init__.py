"""Bytes at speed: one source, compiled or not, with the same tests on both."""
