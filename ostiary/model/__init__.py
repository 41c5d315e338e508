"""The nouns: what the stages hand to one another. No I/O, no decisions."""
