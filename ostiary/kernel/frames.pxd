# Types for frames.py when it is compiled: the gain comes from these, not from compiling. See frames.py.
cimport cython


cdef int SMALL_FRONTEND, SMALL_BACKEND, DATA_ROW, COPY_DATA
cdef bytes FRONTEND_TAGS, BACKEND_TAGS


@cython.final
cdef class Run:
    cdef readonly int tag
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly Py_ssize_t count


@cython.locals(run=Run)
cdef Run _run(int tag, Py_ssize_t start, Py_ssize_t end, Py_ssize_t count)
@cython.locals(table=bytes, small=Py_ssize_t, rows=int, end=Py_ssize_t, position=Py_ssize_t, length=Py_ssize_t, limit=Py_ssize_t,
               tag=int, kind=int, b0=Py_ssize_t, b1=Py_ssize_t, b2=Py_ssize_t, b3=Py_ssize_t, run_tag=int, run_start=Py_ssize_t, run_count=Py_ssize_t)
cdef Py_ssize_t _walk(bytes buf, Py_ssize_t start, bint from_client, list runs) except -1
@cython.locals(runs=list, stop=Py_ssize_t)
cpdef tuple scan(buf, Py_ssize_t start=*)
@cython.locals(runs=list, stop=Py_ssize_t)
cpdef tuple scan_frontend(buf, Py_ssize_t start=*)

@cython.locals(b0=Py_ssize_t, b1=Py_ssize_t, b2=Py_ssize_t, b3=Py_ssize_t)
cpdef Py_ssize_t frame_size(const unsigned char[::1] buf, Py_ssize_t start=*) except -1

@cython.locals(position=Py_ssize_t, count=Py_ssize_t, stop=Py_ssize_t, cells=Py_ssize_t, length=Py_ssize_t,
               b0=Py_ssize_t, b1=Py_ssize_t, b2=Py_ssize_t, b3=Py_ssize_t)
cpdef Py_ssize_t check_rows(const unsigned char[::1] buf, Py_ssize_t start, Py_ssize_t end,
                            Py_ssize_t columns) except -1


@cython.final
cdef class Inbox:
    cdef public bint _from_client
    cdef public Py_ssize_t _hold
    cdef public bytearray _rest
    cdef public Py_ssize_t _need
    cdef public int _tag
    cdef public Py_ssize_t left
    @cython.locals(taken=Py_ssize_t, joined=bytes)
    cpdef tuple feed(self, bytes chunk)
    @cython.locals(consumed=Py_ssize_t, size=Py_ssize_t)
    cpdef tuple _split(self, bytes buf, Py_ssize_t start, list runs)
