"""Dial what a permit names, with credentials that the client never sees."""

from ostiary.upstream.dial import Target, cancel_target, open_target

__all__ = ["Target", "cancel_target", "open_target"]
