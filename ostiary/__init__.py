"""Ostiary: an identity-aware Layer-7 access gateway. `ARCHITECTURE.md` is the map."""

__version__ = "0.1.0"
