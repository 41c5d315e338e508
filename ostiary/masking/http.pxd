# Types of http.py for the compiled line.
cimport cython

from ostiary.masking.concealed cimport Concealer
from ostiary.masking.counts cimport Counts
from ostiary.model.nouns cimport Noun
from ostiary.model.proofs cimport Masked
from ostiary.model.results cimport ReplyHead


@cython.final
cdef class Left(Noun):
    cdef readonly ReplyHead head
    cdef readonly object bits
    cdef readonly object rules
    cdef readonly bint changed
    cdef readonly bint unpacked
    cdef readonly Masked masked


@cython.final
cdef class Released:
    cdef dict _known
    cdef Left _last
    @cython.locals(kept=Left, same=bint)
    cpdef Masked find(self, ReplyHead head, bits, rules, bint changed, bint unpacked)
    cpdef keep(self, Left left)


cdef class ReplyMasker:
    cdef public object _all
    cdef public object _bits
    cdef public object _body
    cdef public Concealer _concealer
    cdef public Counts _counts
    cdef public bint _looked
    cdef public Released released
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
    cdef bint _looks(self) except *
    cdef list _masked(self, part)
    cdef list _begun(self, ReplyHead head)
    cpdef _choose(self, ReplyHead head)
    cdef _seen_through(self, ReplyHead head)
    @cython.locals(given=list)
    cdef list _give(self, bytes data, bint final)
    @cython.locals(head=ReplyHead, unpacked=bint, released=Released, found=Masked)
    cdef Masked _release(self, bint changed)
    @cython.locals(lines=list, masking=bint, name=bytes, value=bytes, lower=bytes)
    cdef Masked _written(self, ReplyHead head, bint changed, bint unpacked)
    cdef bytes _value(self, bytes name, bytes value)
