"""One folder a wire protocol; all sans-io."""
