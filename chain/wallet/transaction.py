"""A transaction before it is signed: everything that is signed, in a file that a machine without network can read.

Rule: what is shown before signing is decoded from the very bytes that are signed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from chain.primitives.keys import Keypair
from chain.primitives.scale import ScaleError
from chain.primitives.types import (
    ERA,
    EXTRINSIC_VERSION,
    Ed25519Signature,
    ExtrinsicSignature,
    Id,
    Mortal,
    encode_extrinsic,
    sign_extrinsic,
)
from chain.wallet.metadata import Metadata

# What is signed besides the call, in the order in which it is laid out.
EXTENSIONS: Final = (
    "CheckSpecVersion",
    "CheckTxVersion",
    "CheckGenesis",
    "CheckMortality",
    "CheckNonce",
    "CheckWeight",
    "ChargeTransactionPayment",
)
FORMAT: Final = "potchain transaction 1"


class CannotSign(ValueError):
    """The chain wants something signed that this program does not know."""


class BadFile(ValueError):
    """The file holds no prepared transaction; the message says what is wrong with it."""


def check_extensions(metadata: Metadata) -> None:
    """CannotSign for a chain whose transactions are laid out otherwise than ours."""
    if metadata.extrinsic_version != EXTRINSIC_VERSION or metadata.extensions != EXTENSIONS:
        raise CannotSign(
            f"expected a chain whose transactions have version {EXTRINSIC_VERSION} and the extensions "
            f"{', '.join(EXTENSIONS)}, got version {metadata.extrinsic_version} and {', '.join(metadata.extensions)}"
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """What a signature covers, and the account that has to give it. `birth` is the height at which its era begins."""

    call: bytes
    account: bytes
    nonce: int
    tip: int
    era: Mortal | None
    era_hash: bytes
    birth: int
    genesis_hash: bytes
    spec_name: str
    spec_version: int
    transaction_version: int

    @property
    def death(self) -> int | None:
        """The height at which it is valid no more; None if it never ends."""
        return None if self.era is None else self.era.death(self.birth)

    def unsigned(self) -> bytes:
        """The extrinsic with a signature of zeros: what a node reckons the fee by."""
        signature = ExtrinsicSignature(Id(self.account), Ed25519Signature(bytes(64)), self.era, self.nonce, self.tip)
        return encode_extrinsic(self.call, signature)

    def sign(self, keypair: Keypair) -> bytes:
        """The signed extrinsic's full wire bytes."""
        assert keypair.public == self.account, "who calls this has checked whose key it is"
        return sign_extrinsic(
            keypair,
            self.call,
            nonce=self.nonce,
            spec_version=self.spec_version,
            transaction_version=self.transaction_version,
            genesis_hash=self.genesis_hash,
            era=self.era,
            era_hash=self.era_hash,
            tip=self.tip,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A draft with what is needed to show it where there is no node: of that, nothing is signed."""

    draft: Draft
    prefix: int
    metadata: bytes

    def to_json(self) -> str:
        """The file."""
        parts = {name: _written(value) for name, value in asdict(self.draft).items() if name != "era"}
        parts["era"] = f"0x{ERA.encode(self.draft.era).hex()}"
        found = {"format": FORMAT, **parts, "prefix": self.prefix, "metadata": _written(self.metadata)}
        return json.dumps(found, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Prepared:
        """From a file's text; BadFile says what is wrong with it."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise BadFile("expected the file that potchain tx prepare writes, got what is no JSON") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise BadFile(f"expected the file that potchain tx prepare writes ({FORMAT!r}), got another")
        read = _Reader(found)
        try:
            era = ERA.decode(read.bytes("era", None))
        except ScaleError as error:
            raise BadFile(f"era: {error}") from None
        draft = Draft(
            call=read.bytes("call", None),
            account=read.bytes("account", 32),
            nonce=read.number("nonce", 2**32 - 1),
            tip=read.number("tip", 2**128 - 1),
            era=era,
            era_hash=read.bytes("era_hash", 32),
            birth=read.number("birth", 2**32 - 1),
            genesis_hash=read.bytes("genesis_hash", 32),
            spec_name=read.text("spec_name"),
            spec_version=read.number("spec_version", 2**32 - 1),
            transaction_version=read.number("transaction_version", 2**32 - 1),
        )
        if era is None and draft.era_hash != draft.genesis_hash:
            raise BadFile("era_hash: expected the genesis hash, since the transaction is immortal")
        return cls(
            draft=draft,
            prefix=read.number("prefix", 16383),
            metadata=read.bytes("metadata", None),
        )


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    return str(value) if isinstance(value, int) and value >= 2**53 else value


class _Reader:
    """The parts of a file, each of the kind that it has to be."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def bytes(self, name: str, size: int | None) -> bytes:
        value = self._found.get(name)
        try:
            raw = bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("0x") else None
        except ValueError:
            raw = None
        if raw is None or (size is not None and len(raw) != size):
            raise BadFile(f"{name}: expected 0x and {'hex' if size is None else 2 * size} digits")
        return raw

    def number(self, name: str, most: int) -> int:
        value = self._found.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 40:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise BadFile(f"{name}: expected a number from 0 to {most}")
        return value

    def text(self, name: str) -> str:
        value = self._found.get(name)
        if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
            raise BadFile(f"{name}: expected a short text")
        return value
