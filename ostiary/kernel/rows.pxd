# Types of rows.py for Cython: the Python source is the only source.
cimport cython

from ostiary.kernel.detect cimport Scanner, byte_t

cdef int _KEEP, _SCAN, _REDACT, _LAST4, _NULL, _SUBSTITUTE, _STAR, _QUOTE, _CHUNK, _SHORT
cdef int _BPCHAR, _JSON, _JSONB, _LITERAL, _NUMBER, _HEXED, _INT8, _NUMERIC
cdef byte_t[::1] _STARS
cdef bytes _CONTINUATIONS, _SIGNATURE

@cython.locals(masker=RowMasker)
cpdef tuple mask_rows(bytes frames, bytes treatments, bytes families, object wanted, tuple substitutes=*)
@cython.locals(masker=RowMasker)
cpdef tuple mask_copy_rows(bytes frames, bytes treatments, bytes families, object wanted, tuple substitutes=*)

cdef class RowMasker:
    cdef bytes frames
    cdef bytearray copy
    cdef byte_t[::1] src
    cdef unsigned char[::1] dst
    cdef byte_t[::1] treatments
    cdef byte_t[::1] families
    cdef Py_ssize_t columns
    cdef Scanner scanner
    cdef object counts
    cdef long long[::1] tally
    cdef Py_ssize_t take
    cdef Py_ssize_t put
    cdef bint changed
    cdef tuple substitutes

    @cython.final
    cdef bytes result(self)
    @cython.locals(size=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t)
    @cython.final
    cdef int data_rows(self) except -1
    @cython.locals(size=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t, columns=Py_ssize_t)
    @cython.final
    cdef int copy_rows(self) except -1
    @cython.locals(extension=Py_ssize_t)
    @cython.final
    cdef int file_header(self, Py_ssize_t end) except -1
    @cython.locals(left=Py_ssize_t, length=Py_ssize_t, end=Py_ssize_t)
    @cython.final
    cdef Py_ssize_t frame(self, int tag) except -1
    @cython.final
    cdef int close_frame(self, Py_ssize_t begin, Py_ssize_t end) except -1
    @cython.locals(column=Py_ssize_t, length=Py_ssize_t, take=Py_ssize_t, moved=bint)
    @cython.final
    cdef int row(self, Py_ssize_t columns, Py_ssize_t end) except -1
    @cython.locals(begin=Py_ssize_t, treatment=int, family=int, at=Py_ssize_t)
    @cython.final
    cdef value(self, Py_ssize_t column, Py_ssize_t length)
    @cython.locals(put=Py_ssize_t, i=Py_ssize_t, made=bytes)
    @cython.final
    cdef bint substitute(self, Py_ssize_t column, Py_ssize_t at, Py_ssize_t length) except -1
    @cython.locals(found=Py_ssize_t, shift=Py_ssize_t)
    @cython.final
    cdef bint scan(self, int family, Py_ssize_t at, Py_ssize_t length) except -1
    @cython.locals(stop=Py_ssize_t, quoted=bint, starred=bint, begin=Py_ssize_t, i=Py_ssize_t, c=int)
    @cython.final
    cdef int mend_json(self, Py_ssize_t at, Py_ssize_t length, Py_ssize_t shift) except -1
    @cython.locals(high=Py_ssize_t, weight=int)
    @cython.final
    cdef bint is_small(self, int family, Py_ssize_t at, Py_ssize_t length) except -1
    @cython.final
    cdef bint is_hidden(self, int family, bytes value) except -1
    @cython.final
    cdef bint is_spelt(self, int family, Py_ssize_t at, Py_ssize_t length, Py_ssize_t shift) except -1

    @cython.locals(stop=Py_ssize_t, chars=Py_ssize_t, tail=Py_ssize_t, put=Py_ssize_t, i=Py_ssize_t)
    @cython.final
    cdef redact(self, Py_ssize_t at, Py_ssize_t length, bint last4, bint padded)
    @cython.locals(chars=Py_ssize_t, keep=Py_ssize_t)
    @cython.final
    cdef redact_json(self, Py_ssize_t at, Py_ssize_t length, bint last4)
    @cython.final
    cdef bint is_number(self, Py_ssize_t at, Py_ssize_t length) except -1
    @cython.locals(i=Py_ssize_t, count=Py_ssize_t, end=Py_ssize_t)
    @cython.final
    cdef Py_ssize_t characters(self, Py_ssize_t at, Py_ssize_t stop) except -1

    @cython.locals(put=Py_ssize_t, i=Py_ssize_t)
    @cython.final
    cdef int move(self, Py_ssize_t start, Py_ssize_t count) except -1
    @cython.final
    cdef int keep(self, Py_ssize_t count) except -1
    @cython.final
    cdef int move_many(self, Py_ssize_t put, Py_ssize_t start, Py_ssize_t count) except -1
    @cython.locals(i=Py_ssize_t)
    @cython.final
    cdef stars(self, Py_ssize_t count)
    @cython.locals(some=Py_ssize_t)
    @cython.final
    cdef int many_stars(self, Py_ssize_t count) except -1
    @cython.final
    cdef int byte(self, unsigned char value) except -1
    @cython.final
    cdef int write_null(self) except -1
    @cython.locals(high=Py_ssize_t)
    @cython.final
    cdef Py_ssize_t i32(self, Py_ssize_t at) except? -1
    @cython.locals(value=Py_ssize_t)
    @cython.final
    cdef Py_ssize_t u16(self, Py_ssize_t end) except -1
    @cython.final
    cdef int set_i32(self, Py_ssize_t at, Py_ssize_t value) except -1
