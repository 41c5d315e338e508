# Types of messages.py for the compiled line.

cpdef bytes data_head(long long length, long long code)

cpdef alone(bytes wire)
