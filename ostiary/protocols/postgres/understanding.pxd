# Types of understanding.py for the compiled line.
cimport cython

from ostiary.protocols.postgres.understand.judge cimport FactsCache, Understood, World
from ostiary.protocols.postgres.understand.view cimport View


@cython.final
cdef class Knowledge:
    cdef public FactsCache cache
    cdef public object rewritten
    cdef public object _protect
    cdef public object _rules
    cdef public object _protected
    cpdef protected(self, snapshot)


@cython.final
cdef class Understanding:
    cdef public bint _in_block
    cdef public bint _is_newer
    cdef public Knowledge _knowledge
    cdef public object _snapshot
    cdef public View _view
    cdef public long long _version
    cdef public tuple _paths
    cdef public bytes _digest
    cdef public tuple _types
    cdef public World _world
    @cython.locals(view=View, cache=FactsCache, version=cython.longlong, paths=tuple, digest=bytes)
    cpdef Understood look(self, bytes sql, snapshot, tuple parameter_types=*)
    cpdef renew(self, snapshot, bint at_rest)
    cpdef ready(self, bint in_block, bint failed, bint has_failed=*, bint is_last=*)
