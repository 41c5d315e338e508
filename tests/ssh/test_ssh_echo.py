"""What is typed on a terminal: what the screen answered is on record, and a password never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.events import PayloadKind
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh.echo import MAX_LINE, MAX_LINES, Echo, Typed
from ostiary.protocols.ssh.relay import CUT, _typed
from ostiary.recording.ssh_transcript import ssh_events
from tests.ssh.test_ssh_sessions import record

PROMPT = b"ana@web:~$ "


def typed(*talk: bytes, end: bool = True) -> list[Typed]:
    """What is settled of a conversation: `<` in front of what the target sends, `>` of what the client types."""
    echo = Echo()
    for each in talk:
        (echo.typed if each[:1] == b">" else echo.seen)(each[1:])
    if end:
        echo.end()
    return echo.settled()


def keys(text: bytes, *, echo: bytes | None = None) -> list[bytes]:
    """Each key, and its echo."""
    talk = []
    for key in text:
        answer = echo if echo is not None else b"\r\n" if key == 13 else bytes([key])
        talk += [b">%c" % key, b"<" + answer]
    return talk


SHOWN = [
    pytest.param([b"<" + PROMPT, *keys(b"ls -la\r")], b"ls -la\r", id="key by key"),
    pytest.param([b"<" + PROMPT, b">ls\r", b"<ls\r\n"], b"ls\r", id="at once"),
    pytest.param([b"<" + PROMPT, b">l", b"<\x1b[32ml\x1b[0m", b">s\r", b"<\x1b[32m", b"<s\x1b[0m\r\n"], b"ls\r", id="in colours, cut"),
    pytest.param([b"<" + PROMPT, b">lx", b"<lx", b">\x7f", b"<\b \b", b">s\r", b"<s\r\n"], b"lx\x7fs\r", id="rubbed out by the kernel"),
    pytest.param([b"<" + PROMPT, b">lx", b"<lx", b">\x7fs\r", b"<\b\x1b[Ks\r\n"], b"lx\x7fs\r", id="rubbed out by a line editor"),
    pytest.param([b"<" + PROMPT, b">\x7fls\r", b"<ls\r\n"], b"\x7fls\r", id="nothing to rub out"),
    pytest.param([b"<" + PROMPT, b">cat /ho", b"<cat /ho", b">\t", b"<me/", b">x\r", b"<x\r\n"], b"cat /ho\tx\r", id="completed"),
    pytest.param([b"<" + PROMPT, b">\x1b[A", b"<ls -la", b">\r", b"<\r\n"], b"\x1b[A\r", id="out of the history"),
    pytest.param([b"<" + PROMPT, b">\x1bOA", b"<ls -la", b">\r", b"<\r\n"], b"\x1bOA\r", id="a cursor key in application mode"),
    pytest.param([b"<" + PROMPT, b">ls\r", b"<\r\x1b[K" + PROMPT + b"ls\r\n"], b"ls\r", id="behind a prompt that is drawn anew"),
    pytest.param([b"<" + PROMPT, b">l", b"<l", b">s\r", b"<\r\x1b[K" + PROMPT + b"ls\r\n"], b"ls\r", id="drawn anew with its prompt"),
    pytest.param([b"<" + PROMPT, b">echo long", b"<echo lo \rng", b">er\r", b"<er\r\n"], b"echo longer\r", id="across the margin"),
    pytest.param([b"<" + PROMPT, b">a ann\r", b"<a \r \rann\r\n"], b"a ann\r", id="across the margin, as its prompt begins"),
    pytest.param([b">ls\r", b"<Last login: today\r\nls\r\n" + PROMPT], b"ls\r", id="before anything was said"),
    pytest.param([b"<" + PROMPT, b">sle", b"<sle", b">\x03", b"<^C\r\n"], b"sle\x03", id="interrupted"),
    pytest.param([b"<" + PROMPT, ">grüße\r".encode(), "<grüße\r\n".encode()], "grüße\r".encode(), id="not ASCII"),
    pytest.param([b"<" + PROMPT, b">\x1b[200~ls\x1b[201~", b"<\x1b[7mls\x1b[27m", b">\r", b"<\r\n"], b"\x1b[200~ls\x1b[201~\r", id="pasted"),
]


@pytest.mark.parametrize(("talk", "expected"), SHOWN)
def test_a_line_that_is_echoed_is_kept(talk: list[bytes], expected: bytes) -> None:
    assert typed(*talk, end=False) == [Typed(expected, shown=True)]


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param([b"<[sudo] password for ana: ", b">hunter2\r", b"<\r\n"], id="at once"),
        pytest.param([b"<[sudo] password for ana: ", *keys(b"hunter2", echo=b""), b">\r", b"<\r\n"], id="key by key"),
        pytest.param([b"<Password: ", *keys(b"hunter2", echo=b"*"), b">\r", b"<\r\n"], id="as stars"),
        pytest.param([b"<Password: ", b">hunter2\r", b"<\r\nSorry, hunter2 is wrong\r\n"], id="printed later, and not as an echo"),
        pytest.param([b"<", b">hunter2\r", b"<ok\r\n" + PROMPT], id="no prompt, no end of line"),
        pytest.param([b"<Password: ", b">hunter2\x03", b"<^C\r\n"], id="called off"),
        pytest.param([b"<Password: ", b">h", b"<h", b">unter2\r", b"<\r\n"], id="its first letter came by chance"),
        pytest.param([b"<Password: ", b">hunter2"], id="never ended"),
        pytest.param([b">hunter2\r", b"<Password: \r\n" + PROMPT], id="before anything was said"),
        pytest.param([b"<Password: ", b">hunter2\r", b"< \r\n" + PROMPT], id="behind a blank"),
        pytest.param([b"<Password: ", b">hunter2\r", b"<\rPassword: \r\n"], id="behind a prompt that is drawn anew"),
        pytest.param([b"<Password> ", b">ls\r", b"<ls\r\nPassword> ", b">hunter2\r", b"<\r\n"], id="a prompt that looks like a shell's"),
        pytest.param([b"<" + PROMPT, b">read -s x\rhunter2\r", b"<read -s x\r\n", b"<" + PROMPT], id="typed ahead"),
        pytest.param([b"<" + PROMPT, b">\x1b]52;c;aHVudGVyMg==\x07", b">\x1b]52;c;hunter2\x1b\\\r", b"<\r\n"], id="the client's clipboard"),
        pytest.param([b"<Password: ", b">" + b"hunter2" * 1000 + b"\r", b"<\r\n"], id="very long"),
    ],
)
def test_a_password_is_never_kept(talk: list[bytes]) -> None:
    kept = b"".join(each.text for each in typed(*talk))
    for at in range(len(b"hunter2") - 1):
        assert b"hunter2"[at : at + 2] not in kept.replace(b"read -s x", b"")
    assert b"aHVudGVyMg" not in kept


def test_that_something_was_typed_is_said_without_how_much() -> None:
    assert typed(b"<Password: ", b">hunter2\r", b"<\r\n") == typed(b"<Password: ", b">x\r", b"<\r\n") == [Typed(b"", shown=False)]


def test_a_command_behind_stty_echo_off_is_kept_and_marked() -> None:
    """SSH-026: where a shell's prompt stands, a line without an echo is a command that somebody hides."""
    talk = [b"<" + PROMPT, *keys(b"stty -echo\r"), b"<" + PROMPT, b">rm -rf /srv\r", b"<" + PROMPT, b">id\r", b"<uid=0\r\n" + PROMPT]
    assert typed(*talk, end=False) == [Typed(b"stty -echo\r", shown=True), Typed(b"rm -rf /srv\r", shown=False), Typed(b"id\r", shown=False)]


@pytest.mark.parametrize("control", [b"\x01", b"\x7f", b"\x1b[C", b"\t", b"\x1b]52;c;x\x07"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_flood_of_keys_around_a_command_hides_none_at_a_prompt(control: bytes, behind: bool) -> None:
    command = b"rm -rf /srv"
    flood = control * 300
    (line,) = typed(b"<" + PROMPT, b">" + (command + flood if behind else flood + command) + b"\r", b"<" + PROMPT, end=False)
    assert command in line.text
    assert not line.shown
    found = typed(b"<" + PROMPT, b">" + command + b"\r" + flood + b"x\rsecond\r", b"<" + PROMPT)
    assert [each.text for each in found] == [command + b"\r", b""], "what is typed ahead of a prompt is no command at it"


def test_a_flood_of_keys_at_a_prompt_for_a_password_tells_nothing_of_it() -> None:
    for typing in (b"hunter2" + b"\x01" * 300 + b"\r", b"\x01" * 300 + b"hunter2\r", b"hunter2\r" + b"\x01" * 300):
        kept = typed(b"<Password: ", b">" + typing, b"<\r\n")
        assert [each.text for each in kept if each.text] == []
        assert kept


@pytest.mark.parametrize("pieces", [1, 3, 5000])
def test_a_long_line_at_a_prompt_is_kept_as_the_beginning_that_it_is(pieces: int) -> None:
    line = b"rm -rf /srv #" + "\u00fc".encode() * 5000
    size = -(-len(line) // pieces)
    talk = [b">" + line[at : at + size] for at in range(0, len(line), size)]
    (found,) = typed(b"<" + PROMPT, *talk, b">\r", b"<" + PROMPT, end=False)
    assert found.cut
    assert not found.shown
    assert line.startswith(found.text.rstrip(b"\r"))
    assert MAX_LINE - 2 <= len(found.text) <= MAX_LINE + 1
    (found,) = typed(b"<" + PROMPT, b">" + line[:13] + b"\x1b[C" * 3000 + b"id\r", b"<" + PROMPT, end=False)
    assert (found.cut, found.text[:11]) == (True, line[:11])
    assert b"id" not in found.text


def test_the_beginning_of_a_long_line_is_not_taken_for_a_whole_one_and_tells_no_beginning_of_a_value() -> None:
    text = b"echo " + b"x" * (MAX_LINE - 15) + b" 4111 1111"
    for by_line in (False, True):
        batch = _typed(Typed(text, shown=False, cut=True), by_line=by_line)
        (message,) = m.decode(batch.head + batch.frames)
        assert isinstance(message, m.Request)
        assert message.name == CUT
        assert text.startswith(message.body)
        assert b"4111" not in message.body
    events = [record(PayloadKind.TERMINAL, m.encode(m.Request("pty-req", m.string(b"x") + bytes(20)))), record(PayloadKind.TERMINAL, m.encode(message))]
    assert [each.text[:30] for each in ssh_events(events, ()) if each.kind == "typed"] == ["the beginning of a long line: "]


def test_typing_ahead_of_the_first_prompt_hides_no_command_behind_it() -> None:
    talk = [b">stty -echo\r", b"<stty -echo\r\nroot@web:~# ", b">rm -rf /srv\r", b"<\r\nroot@web:~# "]
    assert typed(*talk, end=False) == [Typed(b"stty -echo\r", shown=True), Typed(b"rm -rf /srv\r", shown=False)]


@pytest.mark.parametrize("prompt", [b"100%", b"vault> ", b"Enter PIN# ", b"New password $ "])
def test_what_only_looks_like_a_shells_prompt_lets_nothing_be_kept(prompt: bytes) -> None:
    assert typed(b"<" + prompt, b">hunter2\r", b"<\r\n", end=False) == [Typed(b"", shown=False)]


def test_lines_that_are_pasted_together_are_kept() -> None:
    """SSH-028."""
    talk = [b"<" + PROMPT, b">ls\nrm -rf /srv\nid\n", b"<ls\r\nrm\r\nrm x\r\n" + PROMPT, b"<rm -rf /srv\r\n" + PROMPT + b"id\r\n"]
    assert [each.text for each in typed(*talk, end=False)] == [b"ls\n", b"rm -rf /srv\n", b"id\n"]


def test_a_line_that_was_never_echoed_holds_up_no_other() -> None:
    talk = [b"<" + PROMPT, b">read -s x\rsecret\r", b"<read -s x\r\n" + PROMPT, b">ls\r", b"<ls\r\n"]
    assert [each.text for each in typed(*talk, end=False)] == [b"read -s x\r", b"", b"ls\r"]


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40))), st.from_regex(rb"[a-z0-9]{4,12}", fullmatch=True))
def test_what_was_never_on_the_screen_is_never_kept_but_at_a_shells_prompt(talk: list[tuple[bool, bytes]], secret: bytes) -> None:
    said = b"".join(data for is_typed, data in talk if not is_typed)
    noise = [(b">" if is_typed else b"<") + data for is_typed, data in talk]
    kept = b"".join(each.text for each in typed(*noise, b"<\r\nPassword: ", b">\r" + secret + b"\r", b"<\r\n") if each.shown)
    assert secret not in kept or secret in said + b"".join(data for is_typed, data in talk if is_typed)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=30))
def test_any_conversation_is_settled_in_bounded_memory(talk: list[tuple[bool, bytes]]) -> None:
    echo = Echo()
    for is_typed, data in talk:
        (echo.typed if is_typed else echo.seen)(data)
        assert len(echo._lines) <= MAX_LINES
        assert all(len(line.raw) <= MAX_LINE + 8 for line in echo._lines)
    echo.end()
    assert not echo._lines


@pytest.mark.parametrize("flood", [b"\r", b"\x01", b"\x1b[A", b"\x7f", b"x\r", b"x"])
def test_a_flood_of_keys_makes_few_notes(flood: bytes) -> None:
    echo = Echo()
    echo.seen(PROMPT)
    for _ in range(10):
        echo.typed(flood * (30_000 // len(flood)))
    echo.end()
    assert len(echo.settled()) <= 2 * MAX_LINES


def test_output_that_nobody_waits_for_is_not_looked_at_but_for_its_last_line() -> None:
    echo = Echo()
    echo.seen(b"x" * 100_000 + b"\x1b]0;" + b"y\n" * 100_000 + PROMPT)
    echo.typed(b"ls\r")
    echo.seen(b"ls\r\n")
    assert echo.settled() == [Typed(b"ls\r", shown=True)]
    echo.typed(b"a")
    for _ in range(3):
        echo.seen(b"y\r\n" * 100_000)
    assert len(echo._came) <= 2 * 16 * 1024
