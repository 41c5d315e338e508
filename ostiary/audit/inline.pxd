# The C of inline.py. This one is not compiled: whoever imports it has these in its own code.
from libc.string cimport memcpy


cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long long tv_sec
        long long tv_nsec
    int clock_gettime(int which, timespec *seen)
    const int CLOCK_REALTIME
    const int CLOCK_MONOTONIC


cdef extern from *:
    void _fence "__atomic_thread_fence" (int order) noexcept nogil
    const int _ACQ_REL "__ATOMIC_ACQ_REL"
    const int _SEQ_CST "__ATOMIC_SEQ_CST"


cdef inline int put(unsigned char[::1] to, Py_ssize_t at, bytes piece, Py_ssize_t start, Py_ssize_t size) except -1:
    if at < 0 or start < 0 or size < 0 or size > to.shape[0] - at or size > len(piece) - start:
        raise IndexError("a copy outside of its memory")
    if size:
        memcpy(&to[at], <const unsigned char *>piece + start, size)
    return 0


cdef inline bytes taken(unsigned char *room, Py_ssize_t size):
    return room[:size]


cdef inline long long now() noexcept nogil:
    cdef timespec seen
    clock_gettime(CLOCK_REALTIME, &seen)
    return seen.tv_sec * 1000000000 + seen.tv_nsec


cdef inline long long clock() noexcept nogil:
    cdef timespec seen
    clock_gettime(CLOCK_MONOTONIC, &seen)
    return seen.tv_sec * 1000000000 + seen.tv_nsec


cdef inline void order() noexcept nogil:
    _fence(_ACQ_REL)


cdef inline void barrier() noexcept nogil:
    _fence(_SEQ_CST)
