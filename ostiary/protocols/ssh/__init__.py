"""SSH, as RFC 4254 speaks of channels: what is asked on one, what comes back, and SFTP inside it."""
