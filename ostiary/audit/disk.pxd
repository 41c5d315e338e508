# The C of disk.py. This one is not compiled: whoever imports it has these in its own code. Only `let_go` and `take_back` need the interpreter.
from libc.errno cimport EINTR, EIO, errno
from posix.stat cimport stat, struct_stat
from posix.unistd cimport read, write


cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState *held) noexcept

ctypedef PyThreadState *Held


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t pwritev(int fd, const iovec *pieces, int count, long long at)


cdef extern from "<unistd.h>" nogil:
    int fdatasync(int fd)


cdef inline Held let_go() noexcept:
    return PyEval_SaveThread()


cdef inline void take_back(Held held) noexcept:
    PyEval_RestoreThread(held)


cdef inline int wait(int bell) noexcept nogil:
    cdef unsigned long long times
    while read(bell, &times, sizeof(times)) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef inline int ring(int bell) noexcept nogil:
    cdef unsigned long long times = 1
    while write(bell, &times, sizeof(times)) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef inline int put(int fd, unsigned char[::1] ring, long long start, long long size, long long at) noexcept nogil:
    cdef iovec pieces[2]
    cdef long long begin, first, done = 0
    cdef ssize_t wrote
    if start < 0 or start >= ring.shape[0] or size > ring.shape[0]:
        return EIO
    while done < size:
        begin = (start + done) % ring.shape[0]
        first = min(size - done, ring.shape[0] - begin)
        pieces[0].iov_base, pieces[0].iov_len = &ring[0] + begin, first
        pieces[1].iov_base, pieces[1].iov_len = &ring[0], size - done - first
        wrote = pwritev(fd, pieces, 2 if first < size - done else 1, at + done)
        if wrote < 0:
            if errno == EINTR:
                continue
            return errno
        if wrote == 0:
            return EIO
        done += wrote
    return 0


cdef inline int sync(int fd) noexcept nogil:
    while fdatasync(fd) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef inline bint is_named(const char *name, unsigned long long device, unsigned long long number) noexcept nogil:
    cdef struct_stat found
    if stat(name, &found) < 0:
        return False
    return <unsigned long long>found.st_dev == device and <unsigned long long>found.st_ino == number
