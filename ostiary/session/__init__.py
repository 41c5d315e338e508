"""The order of the hops, and nothing else."""
