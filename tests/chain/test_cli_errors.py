"""Whatever a person gets wrong on the command line ends in one line that says what was expected and what came."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from chain import display
from chain.cli import main
from tests.chain.test_cli import TESTNET

ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
MISTYPED = ALICE[:-1] + "Z"
NODE = "expected a node address such as ws://127.0.0.1:9944, got "


def refusal(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What a command says as it refuses, which is one line, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    return said.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("completion", "missing argument 'bash|zsh|fish'; see: potchain completion --help"),
        ("completion tcsh", "bash|zsh|fish: expected bash, zsh or fish, got 'tcsh'; see: potchain completion --help"),
        ("query --limit x", "--limit: expected a whole number from 1 to 100000, got 'x'; see: potchain query --help"),
        (
            "simulate --seeds 0",
            "--seeds: expected a whole number of at least 1, got '0'; see: potchain simulate --help",
        ),
        (
            "--rpc-max-request-size 0.1",
            "--rpc-max-request-size: expected a number from 0.25 to 16.0, got '0.1'; see: potchain --help",
        ),
        (
            f"tx transfer {ALICE} -1 --from //Bob",
            "expected no negative number, got -1; see: potchain tx transfer --help",
        ),
        (
            "task cancel 4294967296 --key //Alice",
            "ID: expected a whole number from 0 to 4294967295, got '4294967296'; see: potchain task cancel --help",
        ),
        (
            "key sign //Bob --password-fd -1",
            "--password-fd: expected a whole number from 0 to 2147483647, got '-1'; see: potchain key sign --help",
        ),
        (f"key inspect {MISTYPED}", f"{MISTYPED}: the checksum does not match; a character is mistyped"),
        (
            "query Balances TotalIssuance --at 0x12",
            "--at: expected a height, or 0x and the 64 hex digits of a block's hash, got '0x12'",
        ),
        ("query --node junk", f"--node: {NODE}'junk'"),
        ("task list --node ws://127.0.0.1:99999", f"--node: {NODE}'ws://127.0.0.1:99999'"),
        (f"light head --genesis {TESTNET} --node http://localhost", f"--node: {NODE}'http://localhost'"),
        (
            "module new guest_book --path /proc/nowhere",
            "--path: cannot make the folder /proc/nowhere: No such file or directory; choose another",
        ),
    ],
)
def test_what_was_expected_and_what_came_is_in_one_line(
    capsys: pytest.CaptureFixture[str], words: str, reason: str
) -> None:
    assert refusal(capsys, words.split()) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('two\\nlines')", "importing it failed: ValueError: two lines"),
        ("def", "importing it failed: SyntaxError: invalid syntax (broken_benchmarks.py, line 1)"),
    ],
)
def test_benchmarks_that_cannot_be_imported_are_their_authors_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "broken_benchmarks.py"
    file.write_text(text)
    assert refusal(capsys, ["module", "weigh", str(file)]) == f"{file}: {reason}"


def test_a_file_of_benchmarks_that_is_no_python_is_told_from_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "garbage"
    file.write_bytes(bytes(range(256)))
    told = refusal(capsys, ["module", "weigh", str(file)])
    assert told == f"cannot read {file}: expected a Python file with benchmarks"


def test_a_folder_that_is_no_exported_task_says_which_file_it_lacks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = refusal(capsys, ["task", "check", str(tmp_path)])
    expected = f"{tmp_path}: expected a folder that `potchain task export` wrote; {tmp_path}/task.json: "
    assert told == f"{expected}No such file or directory"


class Terminal(io.StringIO):
    """Standard output that somebody watches, and tells of its first words."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        count = super().write(text)
        self.wrote.set()
        return count


@pytest.mark.parametrize("command", ["task list", "query", "validator status --key //Alice", "reward explain 0 0"])
def test_who_watches_is_told_of_a_node_that_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(display, "SILENT_SECONDS_MAX", 0.01)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"

        def take_and_hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                assert terminal.wrote.wait(60)

        hung = threading.Thread(target=take_and_hang_up)
        hung.start()
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--node", url])
        hung.join()
    assert ended.value.code == 1
    assert terminal.getvalue() == f"\r\x1b[2Kwaiting for {url} to answer …\r\x1b[2K"
    assert f"{url} does not answer as a node does" in capsys.readouterr().err


def test_what_is_waited_for_is_said_to_nobody_but_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "SILENT_SECONDS_MAX", 0.0)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    before = threading.active_count()
    with display.waiting("waiting …"):
        assert threading.active_count() == before
    assert file.getvalue() == ""


def test_lines_for_readers_alone_end_with_them_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    pipe = open(write_fd, "w")  # noqa: SIM115  (closing it fails, as it must)
    monkeypatch.setattr(sys, "stdout", pipe)
    display.Progress().say("worker", "goes on")
    with pytest.raises(BrokenPipeError):
        display.Progress(read_only=True).say("round", "nobody reads this")
    with suppress(BrokenPipeError):
        pipe.close()
