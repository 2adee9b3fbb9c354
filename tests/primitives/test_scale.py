"""SCALE is canonical: every value has one encoding, and the decoder accepts no other bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import scale
from chain.primitives.scale import (
    BOOL,
    BYTES,
    I8,
    STR,
    U8,
    U16,
    U32,
    U64,
    U128,
    U256,
    UNIT,
    AccountId,
    Array,
    Codec,
    Compact,
    Enum,
    FixedBytes,
    Option,
    ScaleError,
    Tuple,
    Vec,
    codec_of,
    compact32,
    compact128,
    compact_decode,
    compact_encode,
    i32,
    scale_path,
    u8,
    u16,
    u32,
    u64,
    variant,
)


class Colour(enum.IntEnum):
    """Fieldless, with a gap."""

    RED = 0
    BLUE = 7


@variant(0)
@dataclass(frozen=True, slots=True)
class Circle:
    radius: u32


@variant(3, "Box", unnamed=True)
@dataclass(frozen=True, slots=True)
class Rectangle:
    width: compact32
    height: compact32


Shape = Annotated[Circle | Rectangle, Enum("test::Shape", Circle, Rectangle)]


@scale_path("test::Drawing")
@dataclass(frozen=True, slots=True)
class Drawing:
    """Every kind of field."""

    owner: AccountId
    title: str
    data: bytes
    visible: bool
    colour: Colour
    shapes: list[Shape]
    pair: tuple[u8, i32]
    numbers: tuple[u64, ...]
    fee: compact128
    parent: u16 | None
    note: Annotated[bytes, FixedBytes(3)] | None


@dataclass(frozen=True, slots=True)
class Even:
    value: u8

    def __post_init__(self) -> None:
        if self.value % 2:
            raise ValueError(f"{self.value} is odd")


DRAWING = codec_of(Drawing)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


SHAPES = st.one_of(st.builds(Circle, unsigned(32)), st.builds(Rectangle, unsigned(32), unsigned(32)))
DRAWINGS = st.builds(
    Drawing,
    owner=st.binary(min_size=32, max_size=32),
    title=st.text(max_size=20),
    data=st.binary(max_size=80),
    visible=st.booleans(),
    colour=st.sampled_from(Colour),
    shapes=st.lists(SHAPES, max_size=4),
    pair=st.tuples(unsigned(8), st.integers(-(1 << 31), (1 << 31) - 1)),
    numbers=st.lists(unsigned(64), max_size=3).map(tuple),
    fee=unsigned(128),
    parent=st.none() | unsigned(16),
    note=st.none() | st.binary(min_size=3, max_size=3),
)


@given(DRAWINGS)
@settings(max_examples=100, deadline=None)
def test_every_value_survives_encoding_and_decoding(drawing: Drawing) -> None:
    encoded = DRAWING.encode(drawing)
    assert DRAWING.decode(encoded) == drawing
    assert DRAWING.decode_at(b"??" + encoded + b"!", 2) == (drawing, len(encoded) + 2)


@given(DRAWINGS, st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_bytes_are_rejected_or_are_the_encoding_of_what_they_decode_to(drawing: Drawing, data: Any) -> None:
    encoded = bytearray(DRAWING.encode(drawing))
    position = data.draw(st.integers(0, len(encoded) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert"])):
        case "flip":
            encoded[position] ^= data.draw(st.integers(1, 255))
        case "cut":
            del encoded[position : position + data.draw(st.integers(1, 4))]
        case "insert":
            encoded[position:position] = data.draw(st.binary(min_size=1, max_size=4))
    try:
        decoded = DRAWING.decode(bytes(encoded))
    except ScaleError:
        return
    assert DRAWING.encode(decoded) == encoded


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_never_raise_anything_but_a_scale_error(data: bytes) -> None:
    codecs: list[Codec[Any]] = [DRAWING, BYTES, STR, Compact(U128), Option(BOOL), Vec(Vec(U8)), Tuple(U256, I8)]
    for codec in codecs:
        try:
            assert codec.encode(codec.decode(data)) == data
        except ScaleError:
            continue


@given(DRAWINGS)
@settings(max_examples=30, deadline=None)
def test_a_truncated_or_continued_encoding_is_rejected(drawing: Drawing) -> None:
    encoded = DRAWING.encode(drawing)
    with pytest.raises(ScaleError):
        DRAWING.decode(encoded[:-1])
    with pytest.raises(ScaleError, match="1 bytes more"):
        DRAWING.decode(encoded + b"\0")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [  # the vectors of parity-scale-codec's documentation and tests
        (0, "00"),
        (1, "04"),
        (42, "a8"),
        (63, "fc"),
        (64, "0101"),
        (69, "1501"),
        (16383, "fdff"),
        (16384, "02000100"),
        (65535, "feff0300"),
        ((1 << 30) - 1, "feffffff"),
        (1 << 30, "0300000040"),
        ((1 << 32) - 1, "03ffffffff"),
        (1 << 32, "070000000001"),
        (1 << 40, "0b000000000001"),
        (100_000_000_000_000, "0b00407a10f35a"),
        ((1 << 64) - 1, "13ffffffffffffffff"),
    ],
)
def test_compact_integers_are_substrates(value: int, encoded: str) -> None:
    assert compact_encode(value).hex() == encoded
    assert compact_decode(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@pytest.mark.parametrize(
    "encoded", ["0100", "fd00", "02000000", "feff0000", "0300000000", "03ffffff3f", "0700000040" + "00"]
)
def test_a_compact_integer_in_a_longer_form_than_needed_is_rejected(encoded: str) -> None:
    with pytest.raises(ScaleError, match="shortest form"):
        compact_decode(bytes.fromhex(encoded), 0)


@given(st.integers(0, (1 << 536) - 1))
@settings(max_examples=60, deadline=None)
def test_compact_integers_of_every_size_survive(value: int) -> None:
    encoded = compact_encode(value)
    assert compact_decode(encoded, 0) == (value, len(encoded))


def test_known_encodings_of_other_types() -> None:
    assert U16.encode(42).hex() == "2a00"
    assert I8.encode(-1).hex() == "ff"
    assert scale.encode(list[u16], [4, 8, 15, 16, 23, 42]).hex() == "18040008000f00100017002a00"
    assert STR.encode("Hamlet").hex() == "1848616d6c6574"
    assert scale.encode(u8 | None, 1).hex() == "0101"
    assert scale.encode(u8 | None, None).hex() == "00"
    assert scale.encode(tuple[compact32, bool], (3, False)).hex() == "0c00"
    assert scale.encode(Shape, Rectangle(1, 64)).hex() == "03040101"
    assert scale.encode(Colour, Colour.BLUE).hex() == "07"
    assert Array(3, U8).encode([1, 2, 3]).hex() == "010203"
    assert UNIT.encode(()) == b""


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (U8, 256),
        (U8, -1),
        (U8, "1"),
        (U8, 1.0),
        (Compact(U32), 1 << 32),
        (Compact(U32), -1),
        (Compact(U32), 1.5),
        (BOOL, 1),
        (STR, b"text"),
        (STR, "\ud800"),
        (BYTES, "text"),
        (FixedBytes(4), b"12345"),
        (Array(2, U8), [1]),
        (Tuple(U8, U8), (1, 2, 3)),
        (Vec(U8), b"12"),
        (codec_of(Colour), 7),
        (codec_of(Shape), Even(2)),
        (codec_of(Even), Circle(1)),
        (codec_of(Drawing), None),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_not_encoded(codec: Codec[Any], value: object) -> None:
    with pytest.raises(ScaleError, match="expected"):
        codec.encode(value)


@pytest.mark.parametrize(
    ("codec", "encoded"),
    [
        (BOOL, "02"),
        (Option(U8), "0201"),
        (codec_of(Colour), "01"),
        (codec_of(Shape), "0100000000"),
        (STR, "04ff"),
        (Compact(U8), "0104"),
        (Vec(U64), "fc" + "00" * 64),
        (codec_of(Even), "03"),
    ],
)
def test_bytes_that_nothing_encodes_to_are_rejected(codec: Codec[Any], encoded: str) -> None:
    with pytest.raises(ScaleError):
        codec.decode(bytes.fromhex(encoded))


def test_a_vector_that_claims_more_than_its_bytes_is_refused_before_anything_is_allocated() -> None:
    billion = compact_encode(1_000_000_000)
    with pytest.raises(ScaleError, match="claims 1000000000 items in 3 bytes"):
        Vec(U8).decode(billion + b"\0\0\0")
    with pytest.raises(ScaleError, match="claims 1000000000 items"):
        Vec(UNIT).decode(billion)
    assert Vec(UNIT).decode(compact_encode(3)) == [(), (), ()]


def test_annotations_without_a_width_or_a_tag_are_refused_with_what_to_write() -> None:
    with pytest.raises(TypeError, match="integers need a width"):
        codec_of(int)
    with pytest.raises(TypeError, match=r"Annotated\[A \| B"):
        codec_of(Circle | Rectangle)
    with pytest.raises(TypeError, match="tell its two Nones apart"):
        Option(Option(U8))
    with pytest.raises(TypeError, match="share index 0"):
        Enum("test::Twice", Circle, Circle)
    with pytest.raises(TypeError, match="needs @variant"):
        Enum("test::Untagged", Even)


def test_codecs_describe_themselves() -> None:
    assert DRAWING.path == ("test", "Drawing")
    assert DRAWING.docs == ("Every kind of field.",)
    assert codec_of(Shape).path == ("test", "Shape")
    assert codec_of(Even).path == ("potchain", "test_scale", "Even")
    assert codec_of(Even).docs == ()
    assert codec_of(AccountId).path == ("sp_core", "crypto", "AccountId32")
