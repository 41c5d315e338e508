"""Control-plane state: what the control process keeps between two starts, and how workers hear of it. See ADR 10."""
