# Types of writer.py for the compiled line.
cimport cython

from ostiary.audit cimport inline
from ostiary.audit.drain cimport Drain
from ostiary.audit.tail cimport Tail


@cython.final
cdef class Writer:
    cdef public Tail _tail
    cdef public object _segments
    cdef public Drain _drain
    cdef public object _redo
    cdef public object _beside
    cdef public double _patience
    cdef public double _stall
    cdef public double _unsigned
    cdef public long long _fence
    cdef public object _read_fence
    cdef public double _fence_seen_at
    cdef public object _on_clean
    cdef public object _on_closed
    cdef public object _on_failed
    cdef public long long _reserve
    cdef public long long _plenty
    cdef public object _loop
    cdef public object _thread
    cdef public object _nap
    cdef public bint _closing
    cdef public double _full_since
    cdef public double _unsigned_since
    cdef public object _failure
    cdef public object _waiters
    cdef public object _alarm
    cdef public object _housekeeper
    cdef public object _sealer
    cdef public long long _announced
    cdef public double _announced_at
    cdef public long long _drops
    cdef dict __dict__  # for `signed`, which is a word of Cython's
    @cython.locals(index=cython.longlong)
    cpdef Py_ssize_t append(self, bytes entry, bint closing=*) except? -2
    @cython.locals(index=cython.longlong)
    cpdef Py_ssize_t append_all(self, list entries) except? -2
    cpdef _wake(self)
    @cython.locals(now=double, full=double, busy=double)
    cdef _refuse(self)
    @cython.locals(since=double)
    cpdef bint _is_unsigned(self, double now) except -1
