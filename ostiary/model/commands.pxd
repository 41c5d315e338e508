# Types of commands.py for the compiled line.
cimport cython

from ostiary.model.decisions cimport NeedsApproval
from ostiary.model.proofs cimport Intended, Masked


cdef class _Value:
    pass


cdef class Command(_Value):
    pass


@cython.final
cdef class HearClient(Command):
    pass


@cython.final
cdef class HearTarget(Command):
    pass


@cython.final
cdef class LookUp(Command):
    cdef readonly bint afresh


@cython.final
cdef class Clock(Command):
    pass


@cython.final
cdef class Settle(Command):
    pass


@cython.final
cdef class AskHuman(Command):
    cdef readonly NeedsApproval question
    cdef readonly object state


@cython.final
cdef class AwaitAnswer(Command):
    cdef readonly object ticket
    cdef readonly object seconds


@cython.final
cdef class Hold(Command):
    cdef readonly object restraint
    cdef readonly object permit
    cdef readonly object now


@cython.final
cdef class Take(Command):
    cdef readonly object restraint
    cdef readonly object rows
    cdef readonly object size


@cython.final
cdef class Count(Command):
    cdef readonly tuple budgets
    cdef readonly object calls
    cdef readonly tuple objects
    cdef readonly object rows
    cdef readonly object bytes
    cdef readonly bint came


@cython.final
cdef class MakeDurable(Command):
    cdef readonly tuple decisions


@cython.final
cdef class AwaitDurable(Command):
    pass


@cython.final
cdef class AwaitRun(Command):
    pass


@cython.final
cdef class Keep(Command):
    cdef readonly Intended under
    cdef readonly object data
    cdef readonly bint ends


@cython.final
cdef class Order(_Value):
    cdef readonly tuple intended
    cdef readonly object wire


@cython.final
cdef class Run(Command):
    cdef readonly Order order


@cython.final
cdef class Record(Command):
    cdef readonly Masked masked
    cdef readonly Intended under


@cython.final
cdef class Close(Command):
    cdef readonly tuple outcomes


@cython.final
cdef class Send(Command):
    cdef readonly tuple recorded


@cython.final
cdef class Outdate(Command):
    pass
