"""The HTTP API: the only door to the inside for tools and people. First cut: tokens, keys, health, metrics."""
