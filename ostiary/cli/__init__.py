"""The `ostiary` command. `main.main` is the door."""
