"""The lines that people see: one a block, one a round, aligned, so that a change catches the eye.

Plain text when it goes to a file; colour only on a terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any, Final, TextIO, assert_never

from chain.primitives import ss58
from chain.printable import printable
from chain.rpc.errors import ClientError
from consensus.host import GadgetState
from runtime.modules.balances import POT

if TYPE_CHECKING:
    from chain.rpc.client import Client

# Where the text of a line begins, behind the time and what it is about.
TEXT_COLUMN = 19
# And that of a command's findings, behind their name.
LABEL_COLUMNS = 12
RESET = "\x1b[0m"
COLOURS = {"block": "\x1b[2m", "round": "\x1b[1;32m", "stall": "\x1b[1;33m", "error": "\x1b[1;31m"}


AMOUNT_MAX = 2**128 - 1  # Amounts on chain are u128, in planck.
AMOUNT_CHARACTERS_MAX = 80  # Twice the digits of the largest, with its commas and its point.
SILENT_SECONDS_MAX = 1.0  # Within it, a command seems to act at once.
# What people can tell apart at a glance, and what a u128 has digits for.
SYMBOL_MAX: Final = 16
DECIMALS_MAX: Final = 36
GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")


@dataclass(frozen=True, slots=True)
class Token:
    """How amounts are shown: planck, the smallest unit, as a decimal number of tokens."""

    symbol: str
    decimals: int

    def format(self, planck: int) -> str:
        """`1.5 POT`: exact, without needless zeros."""
        whole, part = divmod(planck, 10**self.decimals)
        digits = f"{part:0{self.decimals}d}".rstrip("0") if self.decimals else ""
        return f"{whole:,}{'.' + digits if digits else ''} {self.symbol}"

    def parse(self, text: str) -> int:
        """The planck in a decimal number of tokens; ValueError says what is wrong with it."""
        if len(text) > AMOUNT_CHARACTERS_MAX:
            raise ValueError(f"expected an amount such as 1.5, got {len(text):,} characters")
        whole, _, part = text.partition(".")
        if "," in whole:  # As `format` writes thousands, and no other way: 1,5 may be meant as one and a half.
            if not GROUPED.fullmatch(whole):
                raise ValueError(f"expected an amount such as 1.5, with commas at thousands alone, got {text!r}")
            whole = whole.replace(",", "")
        if not (whole or part) or not (whole + part).isdecimal() or not (whole + part).isascii():
            raise ValueError(f"expected an amount such as 1.5, got {text!r}")
        if len(part) > self.decimals:
            raise ValueError(f"{text}: {self.symbol} has {self.decimals} decimals, got {len(part)}")
        planck = int((whole or "0") + part.ljust(self.decimals, "0"))
        if planck > AMOUNT_MAX:
            raise ValueError(f"expected an amount up to {self.format(AMOUNT_MAX)}, got {text}")
        return planck

    def read(self, text: str) -> int:
        """The planck in an amount with its unit: 1.5POT, 3mPOT, 20µPOT (or uPOT), 7planck; ValueError without one.

        A bare number is refused: who means tokens must not get planck.
        """
        scales = {"": 0, "m": 3, "µ": 6, "μ": 6, "u": 6}  # The micro sign, and the Greek letter that looks like it.
        units = {prefix + self.symbol: self.decimals - less for prefix, less in scales.items() if less <= self.decimals}
        units["planck"] = 0
        for unit in sorted(units, key=len, reverse=True):
            if text.endswith(unit):
                return Token(unit, units[unit]).parse(text.removesuffix(unit).rstrip(" "))
        least = ", ".join(f"3{unit}" for unit in units if unit.startswith("m"))
        raise ValueError(
            f"expected an amount with its unit, such as 1.5{self.symbol}, {least} or 7planck, got {text!r}"
        )


# The unit of this project's own runtime.
POTS: Final = Token("POT", len(str(POT)) - 1)


def told_token(properties: Mapping[str, Any]) -> Token:
    """A chain's token by what a node tells of it; ValueError for what cannot be, or would be another amount.

    Of all that a person signs, how many decimals a token has is what no signature covers: a POT has twelve.
    """
    token = Token(str(properties["tokenSymbol"]), int(properties["tokenDecimals"]))
    is_word = token.symbol.isascii() and token.symbol.isalnum() and len(token.symbol) <= SYMBOL_MAX
    if not is_word or not 0 <= token.decimals <= DECIMALS_MAX:
        raise ValueError(f"its token is {token.symbol[:80]!r} with {token.decimals} decimals")
    if token.symbol == POTS.symbol and token != POTS:
        raise ValueError(
            f"a {token.symbol} with {token.decimals} decimals, while it has {POTS.decimals}: every amount would be "
            "another than is shown"
        )
    return token


async def token_of(client: Client) -> tuple[Token, int]:
    """How the chain shows amounts, and its SS58 prefix; ClientError where the node's word cannot be taken for it."""
    properties: dict[str, Any] = await client.request("system_properties")
    try:
        return told_token(properties), int(properties["ss58Format"])
    except (KeyError, TypeError, ValueError) as error:
        raise ClientError(f"the node does not describe its chain as nodes do: {error}") from None


class Names:
    """Short names for accounts: those of the genesis file where it has one, else the head of the address."""

    def __init__(self, names: Mapping[bytes, str], prefix: int) -> None:
        self._names = dict(names)
        self._prefix = prefix

    def labels(self, account: bytes) -> tuple[str, str]:
        """The whole address, and the name in the genesis file, empty without one."""
        return ss58.encode(account, self._prefix), self._names.get(account, "")

    def __getitem__(self, account: bytes) -> str:
        return self._names.get(account) or ss58.encode(account, self._prefix)[:8] + "…"


def short_hash(value: bytes) -> str:
    """Enough of a hash to tell two apart."""
    return f"0x{value.hex()[:6]}…{value.hex()[-4:]}"


def print_anything() -> None:
    """Print what the terminal's encoding lacks as a question mark: a hash's ellipsis must not end a node."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where it was closed, something else in tests.
            stream.reconfigure(errors="replace")


def say(kind: str, text: str) -> None:
    """Print one line with the time and what it is about; on a terminal, what is longer goes on below its beginning.

    What cannot be printed is lost, and nothing else is: whoever says it has more to do than to be read.
    """
    with suppress(OSError):
        tell(kind, text)


def tell(kind: str, text: str) -> None:
    """The same for who has nothing else to do: BrokenPipeError where nobody reads any more."""
    line = f"{time.strftime('%H:%M:%S')}  {kind:<8} {printable(text)}"
    if sys.stdout.isatty():
        line = laid_out(kind, line)
    print(line, flush=True)


def laid_out(kind: str, line: str) -> str:
    """A line as it is shown on this terminal: as long as that is wide, in the colour of what it is about."""
    line = "\n".join(folded(each, shutil.get_terminal_size().columns) for each in line.split("\n"))
    return f"{COLOURS[kind]}{line}{RESET}" if kind in COLOURS else line


def time_left(seconds: float) -> str:
    """How long something still takes, as people say it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"about {seconds / size:.0f} {unit} left"
    return f"about {seconds:.0f} s left"


class Pace:
    """How fast the rounds are that a watch has seen whole: not the one in whose midst it began."""

    def __init__(self, round: int) -> None:
        self._began_in = round
        self._first: tuple[int, float] | None = None

    def seconds_left(self, round: int, rounds: int, now: float) -> float | None:
        """How long all rounds still take of which this one runs; None before a whole one was seen, and after all."""
        if self._first is None and round > self._began_in:
            self._first = round, now
        if self._first is None or round in (self._first[0], rounds):
            return None
        first, since = self._first
        return (now - since) / (round - first) * (rounds - round)


class Progress:
    """Lines that stay, and where somebody watches a last line that says what is going on until the next one.

    A terminal has somebody who watches; `watched` says so of what is none, such as a notebook. `read_only` is for what
    there is for its readers alone: it ends with BrokenPipeError when they have gone.
    """

    def __init__(self, *, watched: bool = False, read_only: bool = False) -> None:
        self._say = tell if read_only else say
        self._terminal = sys.stdout.isatty()
        self._watched = watched or self._terminal
        self._shown = 0

    def show(self, text: str) -> None:
        """Say what is going on, in place of what was said before."""
        text = printable(text)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[2K{text[:width]}", end="", flush=True)
        elif self._watched:
            # A notebook goes back to the beginning of a line, and knows nothing else of what terminals do.
            print(f"\r{text.ljust(self._shown)}", end="", flush=True)
        self._shown = len(text)

    def say(self, kind: str, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        self._say(kind, text)

    def clear(self) -> None:
        """Nothing goes on any more."""
        if self._terminal:
            print("\r\x1b[2K", end="", flush=True)
        elif self._watched and self._shown:
            print(f"\r{' ' * self._shown}\r", end="", flush=True)
        self._shown = 0


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say on a terminal what is waited for, from the moment on at which somebody may wonder; and nothing elsewhere."""
    progress = Progress()
    timer = threading.Timer(SILENT_SECONDS_MAX, progress.show, (text,))
    timer.daemon = True
    if sys.stdout.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()  # What it shows by now is shown, and can be cleared.
            progress.clear()


def put(line: str, indent: int = 0, stream: TextIO | None = None) -> None:
    """Print lines; on a terminal, what is longer goes on below, behind so many blanks, and no word is broken."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty():
        line = "\n".join(folded(each, shutil.get_terminal_size().columns, indent) for each in line.split("\n"))
    print(line, file=stream, flush=True)


def folded(line: str, columns: int, indent: int = TEXT_COLUMN) -> str:
    """A line in lines of so many columns, as far as its words allow; the later ones behind the indent of its text."""
    if len(line) <= columns or columns < 2 * TEXT_COLUMN:
        return line
    wrapper = TextWrapper(columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    wrapper.drop_whitespace = True
    head, text = line[:indent], line[indent:]
    return "\n".join(wrapper.wrap(head.ljust(indent) + text))


def block_line(
    height: int, hash: bytes, author: str, missing: Sequence[str], validators: int, view: int, transactions: int
) -> str:
    """What is in a block: the seal of its parent, which lacks the votes of `missing`, and transactions.

    View 0 is the normal case and not worth a word.
    """
    parent = f"parent sealed {validators - len(missing)}/{validators}" if height > 1 else "parent is genesis"
    without = f" without {', '.join(missing)}" if missing else ""
    late = f"  view {view}" if view else ""
    return f"{height:>6}  {short_hash(hash)}  by {author:<7}  {parent}{without}  {transactions} tx{late}"


def states_line(history: int | None, oldest: int, head: int) -> str:
    """Which blocks' states a node keeps, and what is different for now."""
    kept = "all blocks are kept" if history is None else f"the last {history} blocks are kept"
    first_due = 0 if history is None else max(0, head - history + 1)
    if oldest > first_due:
        return f"those after {kept}, from height {oldest} on: earlier ones were pruned and do not come back"
    if oldest < first_due:
        return f"those after {kept}; {first_due - oldest} older ones go with the next blocks"
    return f"those after {kept}"


def waiting_line(state: GadgetState, names: Names) -> str:
    """Whom consensus waits for, and to do what."""
    missing = ", ".join(names[account] for account in state.missing)
    match state.phase:
        case "proposal":
            what = f"{missing} to propose"
        case "prepare" | "commit":
            what = f"{missing} to {state.phase}"
        case "view-change":
            what = f"{missing} to change to it"
        case "sealing":
            what = "the block that a quorum has decided on, and for nobody's vote"
        case _:
            assert_never(state.phase)
    return f"view {state.view} waits for {what}"


def attestations_line(validators: int, quorum: int, missing: Sequence[str]) -> str:
    """How many validators have attested to a round, and whose auditors have not."""
    if not missing:
        return f"all {validators} validators attested, and no {quorum} of them alike"
    return f"{validators - len(missing)} of {validators} attested, {quorum} needed; missing {', '.join(missing)}"


def round_line(
    task: str,
    round: int,
    evaluation: tuple[float, float] | None,
    accepted: int,
    planted: int,
    slots: int,
    minted: str,
) -> str:
    """What a round of training came to: held-out loss and accuracy (0 to 1) if it was evaluated, and what it paid."""
    figures = "not evaluated".ljust(29)
    if evaluation is not None:
        figures = f"loss {evaluation[0]:.4f}  accuracy {100 * evaluation[1]:>5.2f} %"
    rest = f", {planted} planted" if planted else ""
    return f"{round:>4}  {task:<6}  {figures}  {accepted + planted}/{slots} paid {minted}{rest}"


def phase_line(round: dict[str, Any]) -> str:
    """How far the running round is, and the one that has begun ahead of its end."""
    line = _round_phase(round)
    return line if round["ahead"] is None else f"{line}; {_round_phase(round['ahead'])}"


def _round_phase(round: dict[str, Any]) -> str:
    slots = round["slots"]
    match round["phase"]:
        case "commit":
            done = f"{sum(slot['commitment'] is not None for slot in slots)}/{len(slots)} slots committed"
        case "reveal":
            done = f"{sum(slot['updateRoot'] is not None for slot in slots)}/{len(slots)} slots revealed"
        case "audit":
            done = f"audited by {len(round['attestations'])} validators so far"
        case "idle":
            done = "waiting for workers"
        case _:
            done = "final"
    again = f", attempt {round['attempt'] + 1}" if round["attempt"] else ""
    return f"round {round['round']}{again}: {done}"
