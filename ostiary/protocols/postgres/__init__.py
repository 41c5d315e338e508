"""PostgreSQL, protocol 3.0 and 3.2: see README.md."""
