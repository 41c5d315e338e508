# Types of tree.py for the compiled line.
cimport cython

from ostiary.audit cimport evp

cdef evp.Digest _digest

@cython.locals(entry=bytes, hashes=list)
cpdef list leaf_hashes(object entries)
@cython.locals(row=bytes, at=Py_ssize_t)
cpdef bytes full_root(object hashes)
