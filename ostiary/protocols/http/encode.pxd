# Types of encode.py for the compiled line.
cimport cython

from ostiary.protocols.http.messages cimport Framing


@cython.locals(lines=list)
cpdef bytes request_head(bytes method, bytes target, bytes fields, Framing framing)
@cython.locals(line=bytes)
cpdef bytes length_line(length)
cdef dict _LENGTHS
