"""What a PostgreSQL statement really does, by its grammar and the target's catalogue. Pure: text in, `Facts` out."""
