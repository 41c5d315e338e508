# Types of session.py for the compiled line.

cdef class Lane:
    cdef object _coroutine
    cdef object _carry_out
    cdef object _failed
    cdef object _send
    cdef public object unheard
    cdef public long long unheard_bytes
    cdef public bint waits
    cdef public bint gone
    cdef public bint busy
    cdef public bint is_over
    cpdef resume(self, reply)
    cpdef hear(self, data)
    cpdef listen(self)


cdef class SessionDriver:
    cdef public object line
    cdef public object who
    cdef object _relay
    cdef object _journal
    cdef object _recorder
    cdef object _catalogue
    cdef object _cancel
    cdef object _ended
    cdef object _loop
    cdef object _client
    cdef object _target
    cdef dict _paused
    cdef list _timers
    cdef bint _finished
    cdef object _under_way
    cdef double _idle_seconds
    cdef object _idle_timer
    cdef double _heard_at
    cdef Lane _requests
    cdef Lane _replies
    cpdef heard(self, side, data)
