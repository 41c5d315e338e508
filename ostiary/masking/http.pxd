# Types of http.py for the compiled line.
cimport cython

from ostiary.masking.concealed cimport Concealer
from ostiary.model.proofs cimport Masked
from ostiary.model.results cimport ReplyHead


cdef class ReplyMasker:
    cdef public object _all
    cdef public object _bits
    cdef public object _body
    cdef public Concealer _concealer
    cdef public object _counts
    cdef public object _detect
    cdef public ReplyHead _head
    cdef public object _passes
    cdef public object _rules
    cdef public object conceals
    cdef public bint has_body
    cdef public object length
    cpdef show(self, clear)
    @cython.locals(concealer=Concealer, found=list, made=list, masked=Masked)
    cpdef list mask(self, part)
    cdef list _masked(self, part)
    @cython.locals(given=list)
    cdef list _give(self, bytes data, bint final)
    @cython.locals(head=ReplyHead, lines=list, masking=bint, unpacked=bint, name=bytes, value=bytes, lower=bytes)
    cdef Masked _release(self, bint changed)
    cdef bytes _value(self, bytes name, bytes value)
