# Types of payloads.py for the compiled line.
cimport cython

from ostiary.vault cimport payload_format as form

cdef Py_ssize_t _MAX_PLAIN, _RECORD, _PIECE, _SEAL, _SALT, _SALTS, _MAX_LOOSE
cdef object _STATEMENT, _pack_record, _pack_aad, _pack_nonce, _pack_word


@cython.final
cdef class PayloadStream:
    cdef readonly object path
    cdef readonly int _fd
    cdef bytes _session
    cdef object _aead
    cdef long long _quota
    cdef object _allowance
    cdef long long _chunks
    cdef long long _size
    cdef bytes _head
    cdef long long _records
    cdef public bint keeps_loose
    cdef list _loose
    cdef long long _loose_bytes
    cdef long long _written
    cdef bytes _salts
    cdef Py_ssize_t _salted
    cdef dict _known
    cdef long long _known_bytes
    cdef list _again
    cdef str _entry
    cdef bytes _raw_entry
    cdef object _failure
    cdef public object trouble
    cdef bint _folder_synced
    cdef object _closing
    cdef int _syncing
    cdef bint _closed
    @cython.locals(refs=list, fresh=list, seen=dict, at=Py_ssize_t, item=tuple, known=tuple, data=bytes)
    cpdef list write(self, list items)
    @cython.locals(raw_entry=bytes, size=Py_ssize_t, needed=cython.longlong, start=Py_ssize_t, record=bytes)
    cpdef append(self, kind, str entry, long long t_us, data)
    cpdef loose(self)
    cdef _ask(self, long long needed)
    cdef int _check_alive(self) except -1
    cdef bytes _raw(self, str entry)
    @cython.locals(heads=list, total=cython.longlong, at=Py_ssize_t, item=tuple, data=bytes, needed=cython.longlong, group=list, size=cython.longlong, number=Py_ssize_t, more=cython.longlong)
    cdef _write_fresh(self, list items, list fresh, list refs)
    @cython.locals(parts=list, blob=str, number=Py_ssize_t, at=Py_ssize_t, item=tuple, data=bytes, head=bytes)
    cdef _put_records(self, list items, list fresh, list heads, list group, long long size, list refs)
    cdef _remember(self, bytes data, ref, long long number)
    cdef bytes _take_again(self)
    cdef _flush_again(self, long long beside)
    @cython.locals(start=Py_ssize_t)
    cdef bytes _salt(self)
    @cython.locals(chunk=cython.longlong, sealed=bytes, word=bytes, blob=bytes)
    cdef bytes _put_chunk(self, bytes plain)
    cdef bytes _put_group(self, plains)
    cdef _put_bytes(self, bytes data)


@cython.locals(written=Py_ssize_t)
cdef int _write_all(int fd, bytes data) except -1
