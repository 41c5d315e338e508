# Types of copies.py for Cython: the Python source is the only source.
cimport cython

from ostiary.kernel.rows cimport RowMasker

cdef int _KEEP, _SCAN, _LAST4, _NULL, _SUBSTITUTE, _BACKSLASH, _NEWLINE
cdef int _TEXT, _BPCHAR, _JSON, _JSONB, _LITERAL, _HEXED, _NUMBER, _BYTEA
cdef dict _ESCAPES

@cython.locals(room=Py_ssize_t, treatment=int, family=int)
cdef Py_ssize_t _room(bytes frames, bytes treatments, bytes families, object wanted, bytes null) except -1
@cython.locals(masker=CopyMasker)
cdef tuple _mask(bytes frames, bytes treatments, bytes families, object wanted, tuple form, tuple substitutes)

@cython.final
cdef class CopyMasker(RowMasker):
    cdef int delimiter
    cdef int quote
    cdef int escape
    cdef bint csv
    cdef bint null_is_known
    cdef bint quoted
    cdef bint escaped
    cdef bytes null
    cdef bytes header

    cdef int set_form(self, tuple form) except -1
    @cython.locals(size=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t)
    cdef int text_rows(self) except -1
    @cython.locals(column=Py_ssize_t, kept=Py_ssize_t, start=Py_ssize_t, at=Py_ssize_t, last=bint, treatment=int)
    cdef int line(self, Py_ssize_t end) except -1
    cdef Py_ssize_t text_end(self, Py_ssize_t at, Py_ssize_t end) except -1
    cdef Py_ssize_t csv_end(self, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(c=int)
    cdef Py_ssize_t after_quote(self, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(treatment=int, family=int)
    cdef int field(self, Py_ssize_t column, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(treatment=int, family=int, quoted=bint)
    cdef int replaced(self, Py_ssize_t column, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(put=Py_ssize_t, edge=Py_ssize_t)
    cdef int look(self, int family, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(hexed=bint)
    cdef int look_behind(self, int family, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t put) except -1
    cdef bytes substitute_for(self, Py_ssize_t column, bytes value)
    cdef bint is_null(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef bint is_found(self, bytes value, int family) except -1
    cdef bytes value_of(self, Py_ssize_t start, Py_ssize_t stop, bint quoted)
    cdef int text(self, bytes value) except -1
