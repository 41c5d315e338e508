"""What supervisor and children say to each other."""

from __future__ import annotations

import os
import socket
from unittest import mock

import pytest

from ostiary.app.children import MALLOC, Child
from ostiary.app.orders import Orders, Post, Prepare, Prepared, Ready, Take, hear, say, written
from ostiary.app.policies import read_policies
from ostiary.policy.policies import Policies
from ostiary.store.commons import Commons


def test_a_child_goes_on_when_it_is_woken_for_nothing_and_prepares_what_came_before_it_could() -> None:
    above, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with above, link:
        link.setblocking(False)
        post = Post(Orders("ostiary.toml", b"", {}), Commons.alone(), link, lambda: None)
        assert post.heed()
        say(above, Prepare(1), written(b'{"p.cedar": "permit (principal, action, resource);"}'))
        assert post.heed()
        taken: list[Policies] = []
        post.reloads(read_policies, taken.append, lambda _: None)
        post.ready({})
        prepared, _ = hear(above)
        ready, _ = hear(above)
        assert isinstance(prepared, Prepared)
        assert (prepared.fault, ready) == ("", Ready({}))
        for number, expected in ((2, []), (1, [prepared.digest])):
            say(above, Take(number))
            assert post.heed()
            assert [each.digest for each in taken] == expected
        above.close()
        assert not post.heed()


def test_a_child_keeps_the_memory_that_it_freed_but_for_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    child = Child("worker")
    with mock.patch("subprocess.Popen") as started:
        child.start(-1, -1)
    child.link.close()
    assert started.call_args.kwargs["env"] == {**MALLOC, **os.environ}
    assert started.call_args.kwargs["env"]["MALLOC_TOP_PAD_"] == "4096"
