# The C of evp.py. This one is not compiled: whoever imports it has these in its own code. The types are those of <openssl/evp.h>.
from libc.stdint cimport uintptr_t

ctypedef void *(*New)() noexcept
ctypedef void *(*Fetch)(void *library, const char *algorithm, const char *properties) noexcept
ctypedef int (*Begin)(void *context, const void *algorithm, const void *parameters) noexcept
ctypedef int (*More)(void *context, const void *data, size_t size) noexcept
ctypedef int (*Finish)(void *context, unsigned char *digest, unsigned int *size) noexcept


cdef struct Digest:
    bint is_found
    void *context
    void *algorithm
    Begin begin
    More more
    Finish finish


cdef inline Digest found(uintptr_t new, uintptr_t fetch, uintptr_t begin, uintptr_t more, uintptr_t finish) noexcept:
    cdef Digest made
    made.is_found = False
    made.context = made.algorithm = NULL
    made.begin, made.more, made.finish = <Begin>begin, <More>more, <Finish>finish
    if new and fetch and begin and more and finish:
        made.context, made.algorithm = (<New>new)(), (<Fetch>fetch)(NULL, b"SHA256", NULL)
        made.is_found = made.context != NULL and made.algorithm != NULL
    return made


cdef inline bytes part(Digest digest, bytes prefix, bytes data, Py_ssize_t start, Py_ssize_t size):
    cdef unsigned char hashed[32]
    if start < 0 or size < 0 or size > len(data) - start:
        raise IndexError("a hash of what is not there")
    if (
        not digest.is_found
        or digest.begin(digest.context, digest.algorithm, NULL) != 1
        or digest.more(digest.context, <const char *>prefix, len(prefix)) != 1
        or digest.more(digest.context, <const char *>data + start, size) != 1
        or digest.finish(digest.context, hashed, NULL) != 1
    ):
        raise RuntimeError("OpenSSL does not hash")
    return hashed[:32]
