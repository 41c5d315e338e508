# Types of detect.py for Cython: the Python source is the only source.
cimport cython

ctypedef const unsigned char byte_t

cdef int _CARD, _EMAIL, _IBAN, _SSN, _SECRET, _STAR, _BACKSLASH, _SHORTEST_CARD, _LONGEST_CARD, _SHORTEST_TOKEN, _LONG
cdef int _DIGIT, _ALPHA, _ALNUM, _LOCAL, _DOMAIN, _WORD, _HEX, _BODY
cdef byte_t[::1] _CLASS
cdef byte_t[::1] _IBAN_LENGTH
cdef byte_t[::1] _TOKEN_PAIR
cdef byte_t[::1] _TOKEN_START
cdef tuple _TOKENS_BY_BYTE

@cython.final
cdef class Scanner:
    cdef readonly bytes data
    cdef byte_t[::1] src
    cdef unsigned char[::1] dst
    cdef readonly object counts
    cdef long long[::1] tally
    cdef readonly object given
    cdef readonly bint broad
    cdef readonly object candidates
    cdef public int wanted
    cdef public bint dry
    cdef Py_ssize_t next_at
    cdef Py_ssize_t next_pem
    cdef Py_ssize_t next_word
    cdef Py_ssize_t next_run
    cdef bint marked
    cdef unsigned char[::1] digits

    @cython.locals(found=Py_ssize_t, wanted=int)
    cpdef Py_ssize_t scan(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift) except -1
    @cython.locals(found=Py_ssize_t, kind=int, left=Py_ssize_t, right=Py_ssize_t)
    cdef Py_ssize_t others(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift) except -1
    @cython.locals(i=Py_ssize_t)
    cdef int star(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift, int kind) except -1
    @cython.locals(slashes=Py_ssize_t)
    cdef bint is_escaped(self, Py_ssize_t at, Py_ssize_t start) except -1

    cdef Py_ssize_t first(self, pattern, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(found=Py_ssize_t, left=Py_ssize_t, right=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t numbers(self, Py_ssize_t at, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift) except -1
    @cython.locals(between=int, i=Py_ssize_t, area=int)
    cdef Py_ssize_t ssn(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(first=int, count=int, best=Py_ssize_t, between=int, at=Py_ssize_t, group=int)
    cpdef Py_ssize_t card(self, Py_ssize_t left, Py_ssize_t right, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(left=Py_ssize_t, right=Py_ssize_t, begin=Py_ssize_t)
    cdef bint is_dull(self, Py_ssize_t at, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(more=bint)
    cdef bint is_group(self, Py_ssize_t left, Py_ssize_t right) except -1
    cdef bint may_begin(self, Py_ssize_t at, Py_ssize_t start) except -1
    cdef bint is_between(self, Py_ssize_t at, Py_ssize_t stop) except -1
    cdef bint stands_alone(self, Py_ssize_t left, Py_ssize_t right, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(before=int, low=Py_ssize_t, high=Py_ssize_t)
    cdef bint is_part_of_more(self, Py_ssize_t left, Py_ssize_t right, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(head=int, i=int, total=int, digit=int)
    cdef bint is_card(self, int count) except -1
    @cython.locals(first=int, second=int, length=int, rest=int, taken=int, i=Py_ssize_t, c=int)
    cdef Py_ssize_t iban(self, Py_ssize_t at, Py_ssize_t start, Py_ssize_t stop) except -1

    @cython.locals(found=Py_ssize_t, at=Py_ssize_t, left=Py_ssize_t, right=Py_ssize_t)
    cdef Py_ssize_t emails(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift) except -1
    cdef int find_at(self, Py_ssize_t start) except -1
    @cython.locals(i=Py_ssize_t)
    cdef Py_ssize_t escape_length(self, Py_ssize_t left, Py_ssize_t at) except -1
    @cython.locals(end=Py_ssize_t, label=Py_ssize_t, letters=bint)
    cdef Py_ssize_t domain_end(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef bint is_idn(self, Py_ssize_t label, Py_ssize_t end) except -1

    @cython.locals(found=Py_ssize_t, at=Py_ssize_t, begin=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t secrets(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t shift) except -1
    @cython.locals(at=Py_ssize_t)
    cdef find_pem(self, Py_ssize_t start)
    @cython.locals(head=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t private_key(self, Py_ssize_t begin, Py_ssize_t stop) except -1
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t, left=Py_ssize_t, right=Py_ssize_t, marks=int)
    cdef Py_ssize_t tokens(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t floor, Py_ssize_t shift) except -1
    cdef Py_ssize_t end_of_run(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t, end=Py_ssize_t)
    cdef Py_ssize_t word(
        self, Py_ssize_t left, Py_ssize_t right, Py_ssize_t floor, Py_ssize_t stop, Py_ssize_t shift
    ) except -1
    @cython.locals(body=Py_ssize_t, end=Py_ssize_t, least=Py_ssize_t)
    cdef Py_ssize_t token(self, Py_ssize_t at, Py_ssize_t right, Py_ssize_t stop) except -1
    @cython.locals(i=Py_ssize_t, c=int)
    cdef bint aws_key_id(self, Py_ssize_t at, Py_ssize_t right) except -1
    @cython.locals(i=Py_ssize_t, c=int, lower=bint, upper=bint, digit=bint)
    cdef bint aws_secret(self, Py_ssize_t left, Py_ssize_t right, Py_ssize_t floor, Py_ssize_t stop) except -1
    @cython.locals(parts=int, size=Py_ssize_t, end=Py_ssize_t, c=int)
    cdef Py_ssize_t jwt(self, Py_ssize_t at, Py_ssize_t stop) except -1

cdef bint is_digit(int byte) noexcept
@cython.locals(two=int, four=int)
cdef bint is_issued(int head, int count) noexcept
