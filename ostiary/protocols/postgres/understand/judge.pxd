# Types of judge.py for the compiled line.
cimport cython

from ostiary.kernel.literals cimport plain_key
from ostiary.model.nouns cimport Noun


@cython.final
cdef class Understood(Noun):
    cdef readonly object facts
    cdef readonly tuple effects
    cdef readonly bint cacheable
    cdef readonly bint constants
    cdef readonly Py_ssize_t strings


@cython.final
cdef class World(Noun):
    cdef readonly object version
    cdef readonly object paths
    cdef readonly object digest
    cdef readonly object parameter_types
    cdef readonly object number


@cython.final
cdef class FactsCache:
    cdef public long long _limit
    cdef public long long _size
    cdef public dict _young
    cdef public dict _old
    cdef public dict _worlds
    cpdef World world(self, World world)
    @cython.locals(plain=bytes, found=Understood, understood=Understood)
    cpdef Understood look(self, bytes sql, view, snapshot, protected, parameter_types=*, World world=*)
    @cython.locals(found=Understood)
    cpdef Understood _find(self, tuple key)
