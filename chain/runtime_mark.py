"""Notices that a folder's chain is opened with another runtime than the last time, and tries that on its last blocks.

A release may change how a runtime is written, and must not change what it makes of a block: nothing of a chain says yet
from which height on other rules hold. What tells the two apart is to execute blocks again that the chain has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from chain.ledger import Ledger
from chain.primitives.hashing import blake2_256
from chain.primitives.scale import FixedBytes, ScaleError, Struct
from chain.store import DataFolderError
from genesis.runtimes import sources_digest
from genesis.spec import GenesisSpec
from runtime.metadata import VERSIONS
from runtime.panic import Exhausted
from runtime.types import InvalidBlock

# Of these most are empty, and a full one takes half a second.
BLOCKS_TRIED_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """Which runtime last wrote to a folder: what it is made of, and what it tells wallets of itself."""

    sources: Annotated[bytes, FixedBytes(32)]
    metadata: Annotated[bytes, FixedBytes(32)]

    @classmethod
    def of(cls, spec: GenesisSpec) -> Mark:
        """The mark of a genesis file's runtime, as it is installed here."""
        sources = sources_digest(spec.runtime_reference, spec.runtime)
        return cls(sources, blake2_256(spec.runtime.metadata(max(VERSIONS))))


_MARK: Final = Struct(Mark)


class RuntimeChanged(DataFolderError):
    """The runtime gives blocks of the folder's chain another end than the chain has."""


def check_mark(ledger: Ledger, mark: Mark, *, is_development: bool) -> str | None:
    """Compare the runtime with the folder's and keep its mark; what to tell of a change, None where there is none.

    Raises RuntimeChanged, unless the chain is for development: whoever writes a module goes on with it. Takes as long
    as some blocks take: call it in a thread.
    """
    kept = ledger.runtime_mark()
    try:
        known = None if kept is None else _MARK.decode(kept)
    except ScaleError:  # another release's
        known = None
    if known == mark:
        return None
    news = None
    if known is not None:
        news = _try(ledger, known, mark, is_development)
    ledger.keep_runtime_mark(_MARK.encode(mark))
    return news


def _try(ledger: Ledger, known: Mark, mark: Mark, is_development: bool) -> str:
    version = ledger.runtime.version
    name = f"{version.spec_name} {version.spec_version}"
    heights = range(ledger.head.height, max(ledger.oldest_state, ledger.head.height - BLOCKS_TRIED_MAX), -1)
    for height in heights:
        fault = _fault(ledger, height)
        if fault is None:
            continue
        if is_development:
            return f"{name} has changed: {fault}; going on, as the chain is for development"
        raise RuntimeChanged(
            f"the runtime {name} is not the one that made this chain, though it says so: {fault}; run the release, or "
            "the modules, that the chain's other validators run"
        )
    same = f"the last {len(heights)} blocks end as they did" if heights else "there are no blocks yet to try it on"
    wallets = "" if known.metadata == mark.metadata else "; wallets see other metadata under the same version"
    return f"{name} has changed since the last start: {same}{wallets}"


def _fault(ledger: Ledger, height: int) -> str | None:
    """What becomes of a block now, if it is not what became of it then."""
    try:
        return None if ledger.execute_again(height) else f"block {height} would end in another state"
    except (InvalidBlock, Exhausted) as error:
        return f"block {height} would be refused ({error})"
