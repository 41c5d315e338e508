"""The log: entries, tail, WAL, Merkle tree, checkpoints; and those who read it."""
