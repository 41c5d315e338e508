# Types of view.py for the compiled line.
cimport cython


@cython.final
cdef class View:
    cdef public tuple paths
    cdef public tuple default_path
    cdef public dict prepared
    cdef public set prepared_in_sql
    cdef public dict cursors
    cdef public dict made
    cdef public bint fog
    cdef public bint crowded
    cdef public frozenset roles
    cdef public bint blind
    cdef public frozenset modes
    cdef public frozenset modes_inside
    cdef public bint in_transaction
    cdef public bint has_failed
    cdef public tuple _confirmed_path
    cdef public bytes _digest
    cpdef bytes known(self)
    @cython.locals(inside=frozenset)
    cpdef block(self, bint is_open, bint has_failed=*)
    cpdef settle(self)
