"""The log of a process: lines for people and for machines, at levels for each part, that never hold anybody up."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chain import log as logs
from chain.log import LINES_MAX, MESSAGE_MAX, Format, Heard, Line, Log, Writer, logging_to, parse_levels, read_line
from tests.chain.test_cli import refusal, running_node


@contextmanager
def logged(form: Format, levels: str = "info") -> Iterator[list[str]]:
    """The lines that were logged in the block, once it is over."""
    read_fd, write_fd = os.pipe()
    lines: list[str] = []
    try:
        with logging_to(write_fd, form, parse_levels(levels)):
            yield lines
    finally:
        os.close(write_fd)
        with open(read_fd, encoding="utf-8") as pipe:
            lines += pipe.read().splitlines()


def test_a_line_for_people_says_when_about_what_and_how_grave_it_is() -> None:
    with logged(Format.TEXT) as lines:
        Log("block").info("     7  0x12…89", height=7)
        Log("net").warning("we refused a node")
        Log("stall").warning("no block for 8 s")
        Log("worker", "eve").info("earned 1 POT")
    assert [line[8:] for line in lines] == [
        "  block         7  0x12…89",
        "  net      warning: we refused a node",
        "  stall    no block for 8 s",
        "  eve      earned 1 POT",
    ]
    assert all(time.strptime(line[:8], "%H:%M:%S") for line in lines)


def test_a_line_for_machines_is_one_object_with_the_fields_under_their_own_names() -> None:
    before = datetime.now(UTC)
    with logged(Format.JSON) as lines:
        Log("stall").warning("no block\nfor 8 s", missing=["dave"], hash=b"\x12", seconds=8.5, message="mine")
        Log("worker", "eve").info("earned 1 POT")
    stall, worker = map(json.loads, lines)
    at = datetime.fromisoformat(stall["time"])
    assert stall["time"].endswith("Z")
    assert len(stall["time"]) == len("2026-01-02T03:04:05.678Z")
    assert -0.001 <= (at - before).total_seconds() < 60
    assert list(stall)[:4] == ["time", "level", "part", "message"]
    del stall["time"], worker["time"]
    assert stall == {
        "level": "warn",
        "part": "stall",
        "message": "no block\nfor 8 s",
        "missing": ["dave"],
        "hash": "0x12",
        "seconds": 8.5,
    }
    assert worker == {"level": "info", "part": "worker", "message": "earned 1 POT", "name": "eve"}


def test_a_strangers_text_neither_begins_a_line_nor_commands_the_terminal() -> None:
    with logged(Format.TEXT) as lines:
        Log("net").info("it said \x1b[31mred\r12:00:00  block\u2028\u202e\u2066 and\n12:00:00  bug      nothing")
    assert len(lines) == 2
    assert not set("".join(lines)) & set("\x1b\r\u2028\u202e\u2066")
    assert lines[1] == " " * 19 + "12:00:00  bug      nothing"


def test_a_message_is_bounded() -> None:
    with logged(Format.TEXT) as lines:
        Log("net").info("x" * 10 * MESSAGE_MAX)
    assert len(lines[0]) < MESSAGE_MAX + 100


@pytest.mark.parametrize("form", Format)
def test_a_traceback_is_part_of_its_line(form: Format) -> None:
    with logged(form) as lines:
        try:
            raise ValueError("our own mistake")
        except ValueError:
            Log("rpc").exception("it failed")
    if form is Format.JSON:
        (said,) = map(json.loads, lines)
        assert (said["message"], said["level"]) == ("it failed", "error")
        assert said["traceback"].endswith("ValueError: our own mistake")
    else:
        assert lines[0].endswith("rpc      error: it failed")
        assert lines[-1] == " " * 19 + "ValueError: our own mistake"


def test_each_part_has_a_level_and_all_have_one() -> None:
    with logged(Format.TEXT, "warn,net=debug,potchain.rpc=off") as lines:
        Log("block").info("1")
        Log("block").warning("2")
        Log("net").debug("3")
        Log("rpc").error("4")
        logs.set_levels(parse_levels("block=info"))
        Log("block").info("5")
        logs.reset_levels()
        Log("block").info("6")
        Log("net").debug("7")
    assert [line[-1] for line in lines] == ["2", "3", "5", "7"]
    assert not logging.getLogger("potchain.net").isEnabledFor(logging.DEBUG)


def test_of_libraries_warnings_are_written_under_their_names() -> None:
    with logged(Format.JSON) as lines:
        logging.getLogger("httpx").info("a request")
        logging.getLogger("hypercorn.error").warning("something")
    (said,) = map(json.loads, lines)
    assert (said["part"], said["message"]) == ("hypercorn", "something")


@pytest.mark.parametrize("wrong", ["", "net", "net=", "net=loud", "nets=info", "info,,warn", "=info"])
def test_levels_that_there_are_not_are_named_with_those_that_there_are(wrong: str) -> None:
    with pytest.raises(ValueError, match="PART=LEVEL or LEVEL, separated by commas, with a part among block, round"):
        parse_levels(wrong)


def test_who_logs_goes_on_while_nobody_takes_the_lines_and_the_dropped_are_counted() -> None:
    read_fd, write_fd = os.pipe()
    with logging_to(write_fd, Format.JSON) as writer:
        for number in range(3 * LINES_MAX):
            Log("block").info("x" * 100, height=number)
        assert writer.dropped >= LINES_MAX
        assert logs.counts().dropped == writer.dropped
        assert logs.counts().written["info"] + writer.dropped == 3 * LINES_MAX
        taken: list[dict[str, Any]] = []

        def take() -> None:
            with open(read_fd) as pipe:
                taken.extend(map(json.loads, pipe))

        reader = threading.Thread(target=take)
        reader.start()
    os.close(write_fd)
    reader.join(60)
    assert not reader.is_alive()
    told = [line for line in taken if line["part"] == "log"]
    assert sum(line["lines"] for line in told) == writer.dropped
    heights = [line["height"] for line in taken if line["part"] == "block"]
    assert heights == list(range(len(heights)))
    assert len(heights) == 3 * LINES_MAX - writer.dropped


def test_a_process_ends_though_nobody_takes_its_last_lines() -> None:
    read_fd, write_fd = os.pipe()
    started = time.monotonic()
    with logging_to(write_fd):
        for _ in range(LINES_MAX):
            Log("block").info("x" * 100)
    assert time.monotonic() - started < 60 * logs.LAST_WORDS_SECONDS
    os.close(read_fd)  # Which ends the thread's write.
    os.close(write_fd)


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with logging_to(full) as writer:
        Log("block").info("nobody reads this")
    os.close(full)
    assert writer.dropped == 1


@pytest.mark.parametrize("form", Format)
def test_a_launcher_reads_what_its_children_write(form: Format) -> None:
    with logged(form) as lines:
        Log("stall").warning("no block for 8 s", missing=["dave"])
    heard = read_line(lines[0], form)
    assert heard is not None
    assert (heard.part, heard.line.text) == ("stall", "no block for 8 s")
    if form is Format.JSON:
        assert heard == Heard("stall", logging.WARNING, Line("no block for 8 s", {"missing": ["dave"]}))
    for nothing in ("", "error: port 9944", "null", "[1]", '{"part": "stall"}', '{"level": []}', " " * 40):
        assert read_line(nothing, form) is None


def test_a_node_writes_json_and_is_as_quiet_as_it_is_told(tmp_path: Path) -> None:
    words = ("--full-node", "--bootnode=127.0.0.1:1", "--log-format=json", "--log=warn,ready=info")
    with running_node(tmp_path, *words) as lines:
        said = [json.loads(line) for line in lines]
    assert [(line["part"], line["level"]) for line in said] == [("ready", "info")]
    assert said[0]["height"] == 0
    assert "expected PART=LEVEL" in refusal("--genesis", "genesis/testnet.json", "--full-node", "--log=loud")


def test_a_writer_takes_lines_of_any_thread() -> None:
    read_fd, write_fd = os.pipe()
    with logging_to(write_fd, Format.JSON) as writer:
        threads = [threading.Thread(target=Log("rpc").info, args=(str(number),)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os.close(write_fd)
    with open(read_fd) as pipe:
        assert {json.loads(line)["message"] for line in pipe} == {str(number) for number in range(20)}
    assert isinstance(writer, Writer)
