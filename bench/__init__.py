"""The bench: what the gateway costs beside a direct connection and Debian's pgbouncer, in one interleaved run."""
