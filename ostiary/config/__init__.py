"""`ostiary.toml`, read once into frozen values. `load.load` is the door; `types` says what may be written."""
