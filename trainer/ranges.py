"""Parts of blobs: only the chunks that hold what is asked for are fetched, and each is proven by the blob's root.

Rule: a format whose arrays have fixed sizes has fixed places (`layout`), so that a part can be read as strictly as the
whole: what stands between arrays must be what would be written, and the blob as long as all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.primitives.blob import CHUNK_BYTES, RANGE_CHUNKS_MAX
from chain.primitives.hashing import Hash
from trainer.node import Node
from trainer.packing import pack


class RangeError(ValueError):
    """A blob has another length than its format, or other bytes between its arrays."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array's bytes are, and what stands before them since the array before."""

    before: bytes
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is in a blob that `pack` makes of a map whose arrays have these sizes."""

    places: Mapping[str, Place]
    after: bytes  # what stands after the last array
    length: int


def layout(numbers: Mapping[str, int], arrays: Mapping[str, int]) -> Layout:
    """The layout of a map of integers followed by byte strings of so many bytes."""
    # A map's head depends on its size alone: what is packed here has the same, and only short values.
    written = pack({**numbers, **dict.fromkeys(arrays, None)})[:1] + b"".join(
        pack(name) + pack(number) for name, number in numbers.items()
    )
    places: dict[str, Place] = {}
    length = 0
    for name, size in arrays.items():
        written += pack(name) + _bytes_head(size)
        places[name] = Place(written, length + len(written), size)
        length += len(written) + size
        written = b""
    return Layout(places, written, length + len(written))


async def read(node: Node, root: Hash, length: int, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each span (begin, end) of a blob of `length` bytes; RangeError when it has another length.

    Neighbouring chunks are asked for together, and none twice.
    """
    wanted = sorted({chunk for begin, end in spans if end > begin for chunk in _chunks(begin, end)})
    found: dict[int, bytes] = {}
    place = 0
    while place < len(wanted):
        first, count = wanted[place], 1
        while count < RANGE_CHUNKS_MAX and place + count < len(wanted) and wanted[place + count] == first + count:
            count += 1
        total, data = await node.get_chunks(root, first, count)
        if total != length:
            raise RangeError(f"expected a blob of {length:,} bytes, got {total:,}")
        found |= {first + at: data[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES] for at in range(count)}
        place += count
    return [_cut(found, begin, end) for begin, end in spans]


async def read_arrays(node: Node, root: Hash, where: Layout, spans: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    """Of each array the bytes from begin to end; whoever reads from a beginning also checks what stands before it.

    Of a blob without arrays that is all there is to check. RangeError where something else stands there.
    """
    heads = {name: where.places[name].before if begin == 0 else b"" for name, (begin, _) in spans.items()}
    wanted = [
        (where.places[name].start - len(heads[name]) + begin, where.places[name].start + end)
        for name, (begin, end) in spans.items()
    ]
    tail = (where.length - len(where.after), where.length)
    *parts, after = await read(node, root, where.length, [*wanted, tail])
    if after != where.after or any(not part.startswith(head) for part, head in zip(parts, heads.values(), strict=True)):
        raise RangeError("expected the fields of the format between arrays, got others")
    return {name: part[len(heads[name]) :] for name, part in zip(spans, parts, strict=True)}


def _chunks(begin: int, end: int) -> range:
    return range(begin // CHUNK_BYTES, (end - 1) // CHUNK_BYTES + 1)


def _cut(found: Mapping[int, bytes], begin: int, end: int) -> bytes:
    if begin >= end:
        return b""
    chunks = _chunks(begin, end)
    joined = b"".join(found[chunk] for chunk in chunks)
    return joined[begin - chunks.start * CHUNK_BYTES : end - chunks.start * CHUNK_BYTES]


def _bytes_head(size: int) -> bytes:
    """How msgpack begins a byte string."""
    if size < 1 << 8:
        return b"\xc4" + size.to_bytes(1, "big")
    if size < 1 << 16:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")
