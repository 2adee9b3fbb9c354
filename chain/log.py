"""The log of a process: a line a record, for people or as JSON, more or less of it for each part.

Rule: whoever logs hands over a finished line and goes on. A thread writes; what the disk, or who reads the pipe, does
not take in time is dropped and counted, so that a log never delays a vote.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from chain.display import TEXT_COLUMN, laid_out

ROOT: Final = "potchain"
# What a line can be about, in the order of the documentation. A level can be chosen for each.
PARTS: Final = MappingProxyType(
    {
        "block": "a block that became final",
        "round": "a round of training that became final",
        "stall": "why no block comes, and whom that is up to",
        "wait": "whom a round of training waits for",
        "task": "a task that has ended, and that none is left",
        "vote": "whether this validator is in the validator set",
        "sync": "how far catching up is",
        "consensus": "what other validators did that they may not, and what this one must know of its key",
        "clock": "a clock that is wrong",
        "net": "connections, refusals and bans",
        "rpc": "connections of clients",
        "pool": "transactions that waited before a restart",
        "data": "the data folder: where it is, and that it was brought to this version",
        "states": "which states are kept",
        "runtime": "a program that is another than the folder was made with",
        "bug": "what a runtime's module did wrong",
        "system": "what this machine lacks",
        "ready": "that a node answers",
        "dashboard": "where a node's pages are",
        "worker": "what a worker does and earns",
        "auditor": "what an auditor does and earns",
        "aggregator": "what an aggregator does and earns",
        "network": "the processes of a whole network on one machine",
        "log": "lines that were dropped",
    }
)
# What these parts say is a warning by itself.
NAMED_BY_THEMSELVES: Final = ("stall", "wait", "bug", "runtime")
# Substrate's words.
LEVELS: Final = MappingProxyType(
    {
        "off": logging.CRITICAL + 1,
        "error": logging.ERROR,
        "warn": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
        "trace": logging.DEBUG,  # Nothing here is told in more detail than that.
    }
)
_NAMES: Final = {LEVELS[name]: name for name in ("error", "warn", "info", "debug")}

# Some seconds of the loudest node; past it, lines are dropped.
LINES_MAX: Final = 4096
BYTES_MAX: Final = 4 * 1024 * 1024
# A traceback of a bug has 4,000 characters at most, and nothing else comes near.
MESSAGE_MAX: Final = 8192
# How long a process that ends waits for its last lines to be taken.
LAST_WORDS_SECONDS: Final = 1.0
# A stranger's text must neither begin a line of its own, nor command the terminal, nor turn what follows it round.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Format(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Line:
    """What there is to say, in words, and in fields for machines."""

    text: str
    fields: Mapping[str, object] = field(default_factory=dict)


class Log:
    """One part's log. Fields are for machines: numbers, names and lists of them, which the message says in words."""

    def __init__(self, part: str, name: str | None = None) -> None:
        """`name` tells apart who speaks where a part has several; lines for people have it in the part's place."""
        assert part in PARTS, f"{part} is no part: name it in chain/log.py"
        self._logger = logging.getLogger(f"{ROOT}.{part}")
        self._name = name

    def log(self, level: int, message: str, /, **fields: object) -> None:
        if self._logger.isEnabledFor(level):
            if self._name is not None:
                fields["name"] = self._name
            self._logger.log(level, message, extra={"fields": fields, "shown": self._name})

    def debug(self, message: str, /, **fields: object) -> None:
        self.log(logging.DEBUG, message, **fields)

    def info(self, message: str, /, **fields: object) -> None:
        self.log(logging.INFO, message, **fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self.log(logging.WARNING, message, **fields)

    def error(self, message: str, /, **fields: object) -> None:
        self.log(logging.ERROR, message, **fields)

    def exception(self, message: str, /, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._logger.error(message, extra={"fields": fields}, exc_info=True)


@dataclass(frozen=True, slots=True)
class Heard:
    """A line of another process's log."""

    part: str
    level: int
    line: Line


def read_line(line: str, form: Format) -> Heard | None:
    """What a process of this program wrote, with the part as its lines show it; None where it is no line of a log."""
    if form is Format.TEXT:
        part = line[10:TEXT_COLUMN].strip()
        return Heard(part, logging.INFO, Line(line[TEXT_COLUMN:])) if part in PARTS else None
    try:
        said = json.loads(line)
        fields = {key: value for key, value in said.items() if key not in ("time", "level", "part", "message")}
        return Heard(said["part"], LEVELS[said["level"]], Line(said["message"], fields))
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


# --- levels ---


def parse_levels(directives: str) -> dict[str, int]:
    """Levels by logger, from `PART=LEVEL` or, for all parts, `LEVEL`; ValueError says what was expected.

    Substrate's syntax. A part may be called by its logger's full name, too: `potchain.net` for `net`.
    """
    found: dict[str, int] = {}
    for directive in directives.split(","):
        name, equals, level = directive.strip().rpartition("=")
        part = name.strip().removeprefix(f"{ROOT}.")
        if level.strip() not in LEVELS or (equals and part not in PARTS):
            raise ValueError(
                f"PART=LEVEL or LEVEL, separated by commas, with a part among {', '.join(PARTS)} and a level among "
                f"{', '.join(LEVELS)}; got {directive.strip()[:50]!r}"
            )
        found[f"{ROOT}.{part}" if equals else ROOT] = LEVELS[level.strip()]
    return found


def set_levels(levels: Mapping[str, int]) -> None:
    """Log at these levels from now on, and as before where nothing is said."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class _AtStart:
    """What `reset_levels` goes back to: the log is one for the whole process, and so is this."""

    levels: Mapping[str, int] = MappingProxyType({})


def reset_levels() -> None:
    """Log as at the start."""
    for part in PARTS:
        logging.getLogger(f"{ROOT}.{part}").setLevel(logging.NOTSET)
    logging.getLogger(ROOT).setLevel(logging.INFO if _writers else logging.NOTSET)
    set_levels(_AtStart.levels)


# --- lines ---


class TextFormatter(logging.Formatter):
    """`12:00:00  stall    no block for 8 s …`; what goes on in further lines is below its beginning."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        part = _part(record)
        shown = getattr(record, "shown", None) or part
        warns = record.levelno >= logging.WARNING and part not in NAMED_BY_THEMSELVES
        word = f"{logging.getLevelName(record.levelno).lower()}: " if warns else ""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = "\n".join(filter(None, (record.getMessage(), _traceback(record))))
        first, *others = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)[:MESSAGE_MAX].splitlines() or [""]
        line = "\n".join([f"{at}  {shown:<8} {word}{first}", *(" " * TEXT_COLUMN + other for other in others)])
        # A line takes the place of the one that says what is going on just now.
        return f"\r\x1b[2K{laid_out(part, line)}" if self._terminal else line


class JsonFormatter(logging.Formatter):
    """One object a line: when, how grave, about what, in words, and the fields under their own names."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": _NAMES.get(record.levelno, "info"),
            "part": _part(record),
            "message": record.getMessage()[:MESSAGE_MAX],
        }
        if (error := _traceback(record)) is not None:
            line["traceback"] = error[-MESSAGE_MAX:]
        return json.dumps({**line, **_fields(record), **line}, default=_plain)


def _part(record: logging.LogRecord) -> str:
    """Of ours the part, of libraries the library."""
    names = record.name.split(".")
    return names[1] if names[0] == ROOT and len(names) > 1 else names[0]


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    return getattr(record, "fields", {})


def _traceback(record: logging.LogRecord) -> str | None:
    if record.exc_info is None or record.exc_info[0] is None:
        return None
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def _plain(value: object) -> object:
    """What JSON has no word for."""
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


# --- writing ---


class Writer(logging.Handler):
    """Lines on their way to a file descriptor: handed over by any thread, written by one."""

    def __init__(self, fd: int, formatter: logging.Formatter, encoding: str = "utf-8") -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self.written: dict[str, int] = dict.fromkeys(_NAMES.values(), 0)
        self._fd = fd
        self._encoding = encoding
        self._lines: list[bytes] = []
        self._bytes = 0  # of lines that wait or are being written
        self._changed = threading.Condition()
        self._closing = False
        # A process that ends does not wait for a pipe that nobody reads.
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it; never waits for the disk."""
        line = self._encoded(record)
        level = _NAMES.get(record.levelno, "info")
        with self._changed:
            if len(self._lines) >= LINES_MAX or self._bytes + len(line) > BYTES_MAX:
                self.dropped += 1
                return
            self.written[level] += 1
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(self._encoding, errors="replace")

    def close(self) -> None:
        """Write what waits, for a moment at most."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(LAST_WORDS_SECONDS)
        super().close()

    def _write(self) -> None:
        told = 0
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                lines, self._lines = self._lines, []
            if not lines:
                return
            data = b"".join(lines)
            lost = self._lost(data)
            with self._changed:
                self._bytes -= len(data)
                if lost:
                    self.dropped += len(lines)
                missing = self.dropped - told
                if missing and not lost:  # Said ahead of what waits, since there may be no room behind it.
                    told = self.dropped
                    notice = self._encoded(_dropped(missing))
                    self._lines.insert(0, notice)
                    self._bytes += len(notice)

    def _lost(self, data: bytes) -> bool:
        """Write all of it; whether that failed: a disk that is full may have room again for the next lines."""
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])
        except OSError:
            return True
        return False


def _dropped(lines: int) -> logging.LogRecord:
    text = f"{lines} lines were dropped: what takes this log was too slow"
    return logging.makeLogRecord(
        {
            "name": f"{ROOT}.log",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": text,
            "fields": {"lines": lines},
        }
    )


_writers: Final[list[Writer]] = []


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines by level, and how many were dropped."""

    written: Mapping[str, int]
    dropped: int


def counts() -> Counts:
    """What this process has logged."""
    writer = _writers[-1] if _writers else None
    return Counts({}, 0) if writer is None else Counts(dict(writer.written), writer.dropped)


@contextmanager
def logging_to(
    fd: int, form: Format = Format.TEXT, levels: Mapping[str, int] | None = None, *, terminal: bool = False
) -> Iterator[Writer]:
    """Write the process's log to a file descriptor for as long as the block lasts: from INFO on, or as `levels` say.

    Of libraries, warnings are written.
    """
    formatter = JsonFormatter() if form is Format.JSON else TextFormatter(terminal=terminal)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    writer = Writer(fd, formatter, encoding)
    top = logging.getLogger()
    top.addHandler(writer)
    _writers.append(writer)
    before, _AtStart.levels = _AtStart.levels, dict(levels or {})
    reset_levels()
    try:
        yield writer
    finally:
        _writers.remove(writer)
        top.removeHandler(writer)
        _AtStart.levels = before
        reset_levels()
        writer.close()
