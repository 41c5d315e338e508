# Types of ssh_packets.py for the compiled line.
cimport cython


cdef class Gcm:
    cdef public object _aead
    cdef public object seal
    cdef public object open
    cdef public bytes _fixed
    cdef public unsigned long long _count
    cdef public object ahead
    @cython.locals(count=cython.ulonglong)
    cpdef bytes nonce(self)


cdef class Incoming:
    cdef public object _connection
    cdef public dict _state
    cdef public bytes _rest
    cdef public bint _is_clean
    cdef public Gcm _cipher
    cdef public double _stirred_at
    @cython.locals(now=cython.double)
    cpdef bint take(self, bytes data)
    cdef bint _is_ready(self)
    @cython.locals(rest=bytes, missing=cython.longlong)
    cdef _cut(self, bytes data)
    @cython.locals(end=cython.longlong, size=cython.longlong, stop=cython.longlong)
    cdef bint _packets(self, bytes data, long long at)
    @cython.locals(cipher=Gcm, packet=bytes, kind=cython.longlong, padding=cython.longlong, number=cython.longlong, size=cython.longlong)
    cdef bint _one(self, bytes header, sealed)
    cdef _counted(self)
    @cython.locals(known=dict, window=cython.longlong)
    cdef bint _data(self, bytes packet, long long number, long long size)
    @cython.locals(known=dict)
    cdef bint _adjusted(self, long long number, long long size)


cdef class Padding:
    cdef public bytes _bytes
    cdef public long long _at
    cpdef bytes take(self, long long size)


cdef Padding _padding

cpdef write(channel, data)

@cython.locals(size=cython.longlong, at=cython.longlong, room=cython.longlong, most=cython.longlong, part=cython.longlong, known=dict, state=dict, sent=list)
cpdef write_all(channel, list pieces)

@cython.locals(found=list, length=cython.longlong)
cdef list _cut_off(list pieces, long long size)

cdef bint _may_send(dict state)

@cython.locals(padding=cython.longlong, length=cython.longlong, cipher=Gcm)
cdef _seal(dict state, number, long long size, list pieces, list sent)
