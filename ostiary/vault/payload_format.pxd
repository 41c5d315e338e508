# Types of payload_format.py for the compiled line.

cpdef bytes next_head(bytes head, bytes words, bytes blob)
cpdef bytes uuid_bytes(str text)
