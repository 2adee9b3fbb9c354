"""The data folder of a node that does not run: which one it is, and its chain, opened under the folder's lock.

A folder that a node uses is refused with that node's process id; where there is no chain, nothing is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.ledger import Ledger, open_store
from chain.store import DATABASE_FILE, DataFolderError, Store
from genesis.spec import GenesisSpec
from runtime.executive import Executive
from runtime.types import GenesisError

CHAIN = "chain"
VOTE_LOG = "consensus.wal"


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """Where one node of a chain keeps its data."""

    spec: GenesisSpec
    path: Path

    @property
    def chain(self) -> Path:
        """Where the database is."""
        return self.path / CHAIN

    @property
    def vote_log(self) -> Path:
        """What a validator has signed at its last height."""
        return self.path / VOTE_LOG

    def command(self, words: str) -> str:
        """What to type for a `potchain db` command about this folder."""
        return f"potchain --genesis {self.spec.path} --base-path {self.path.parent} --name {self.path.name} db {words}"

    def genesis_state(self) -> dict[bytes, bytes]:
        """The state that the genesis file makes."""
        try:
            return Executive(self.spec.runtime).genesis(self.spec.genesis)
        except GenesisError as error:
            raise GenesisError(f"genesis file {self.spec.path}: genesis.{error}") from None

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The chain's database, brought up to date; raises DataFolderError."""
        self.require_chain()
        store = open_store(self.chain, self.genesis_state(), self.spec.name)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def ledger(self, history: int | None) -> Iterator[Ledger]:
        """The chain itself, begun where there is none; raises DataFolderError."""
        ledger = Ledger.open(
            self.chain,
            executive=Executive(self.spec.runtime),
            genesis_state=self.genesis_state(),
            genesis_name=self.spec.name,
            history=history,
        )
        try:
            yield ledger
        finally:
            ledger.close()

    def require_chain(self) -> None:
        """Raise DataFolderError where there is none: only a node begins one."""
        if not (self.chain / DATABASE_FILE).exists():
            raise DataFolderError(f"no chain in {self.path}: the node has not run yet, or keeps its data elsewhere")


def folders_in(base: Path) -> list[str]:
    """The names of the nodes that keep a chain in a base folder."""
    return sorted(file.parent.parent.name for file in base.glob(f"*/{CHAIN}/{DATABASE_FILE}"))
