# Types of encode.py for the compiled line.
cimport cython

from ostiary.protocols.http.messages cimport Framing


@cython.locals(lines=list)
cpdef bytes request_head(bytes method, bytes target, bytes fields, Framing framing)
