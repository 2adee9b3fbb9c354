"""A small file that a node keeps for its next start: written whole or not at all, and read with distrust.

    magic ++ genesis hash (32) ++ content ++ blake2b-256 of all that

What cannot be read is no loss, since peers have it all. So the disk is not flushed, which would hold up the flushes
that votes wait for: a power cut may leave half a file, which its checksum tells.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.hashing import Hash, blake2_256


class UnusableFile(Exception):
    """The file is not one that this node wrote whole; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """The file at `path`, of one chain; `magic` names what it holds, and the version of its format."""

    path: Path
    magic: bytes
    genesis_hash: Hash
    bytes_max: int

    def encode(self, content: bytes) -> bytes:
        """The file's bytes."""
        data = self.magic + self.genesis_hash + content
        return data + blake2_256(data)

    def write(self, data: bytes) -> None:
        """Put encoded bytes in the place of those that there may be; OSError."""
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_bytes(data)
        os.replace(temporary, self.path)

    def read(self) -> bytes | None:
        """The content, None where there is no file; raises UnusableFile."""
        try:
            with self.path.open("rb") as file:
                data = file.read(self.bytes_max + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableFile(f"{self.path}: {error.strerror}") from None
        if len(data) > self.bytes_max:
            raise UnusableFile(f"{self.path}: expected at most {self.bytes_max} bytes, got more")
        content, checksum = data[:-32], data[-32:]
        if blake2_256(content) != checksum:
            raise UnusableFile(f"{self.path}: expected bytes that match their checksum, got {len(data)} that do not")
        if not content.startswith(self.magic + self.genesis_hash):
            raise UnusableFile(f"{self.path}: expected a file of this chain, got another's, or another version's")
        return content[len(self.magic) + len(self.genesis_hash) :]
