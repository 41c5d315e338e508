"""Sockets in."""
