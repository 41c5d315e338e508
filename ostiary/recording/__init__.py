"""Masked in, Recorded out; transcripts and replay."""
