"""Secrets, keys, and the encrypted payload streams that stand beside the log."""
