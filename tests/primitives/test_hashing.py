"""Hashes and storage prefixes are those that Substrate clients compute."""

from __future__ import annotations

from chain.primitives.hashing import (
    blake2_128,
    blake2_128_concat,
    blake2_256,
    storage_prefix,
    twox_64_concat,
    twox_128,
)


def test_twox_128_of_names_is_substrates() -> None:
    assert twox_128(b"System").hex() == "26aa394eea5630e07c48ae0c9558cef7"
    assert twox_128(b"Account").hex() == "b99d880ec681799c0cf30e8886371da9"
    assert storage_prefix("System", "Number").hex() == (
        "26aa394eea5630e07c48ae0c9558cef702a5c1b19ab7a04f536c519aca4983ac"
    )


def test_concat_hashers_keep_the_key() -> None:
    assert twox_64_concat(b"\0\0\0\0")[8:] == b"\0\0\0\0"
    assert blake2_128_concat(b"key") == blake2_128(b"key") + b"key"


def test_blake2_is_unkeyed_blake2b_of_the_named_length() -> None:
    assert blake2_256(b"").hex() == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
