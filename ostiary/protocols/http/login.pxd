# Types of login.py for the compiled line.
cimport cython

from ostiary.protocols.http.messages cimport Fields, RequestHead

cpdef shown_token(Fields fields)
@cython.locals(fields=Fields, raw=bytes)
cpdef bytes recorded_head(RequestHead head)
