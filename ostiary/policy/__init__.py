"""Policy: an operation in, a decision out. Cedar decides; this package asks it the right questions."""
