"""The light client's parts: the checkpoint's file, the age of blocks, and what comes of several nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chain.light.age import AGE_SECONDS_MAX, AHEAD_SECONDS_MAX, TRUST_SECONDS_MAX, check_age, check_trust, show_age
from chain.light.checkpoint import FILE_BYTES_MAX, Checkpoint, Memory, load, save
from chain.light.client import Answer, Fault, Findings
from chain.light.errors import CheckpointError, Fork, LightError, Stale, Untrue
from chain.primitives.seal import ValidatorSet
from genesis.spec import load as load_genesis
from runtime.testing import GENESIS_TIME_MS
from tests.light.kit import TESTNET, validator_set

AT_7 = Checkpoint(b"\1" * 32, 7, b"\2" * 32, b"\3" * 32, GENESIS_TIME_MS, validator_set(3, 4))
MEMORY = Memory(AT_7, "potchain", "POT", 12)


def test_a_checkpoint_reads_as_it_was_written_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "chain.json"
    assert load(path) is None
    save(path, MEMORY)
    later = replace(MEMORY, checkpoint=replace(AT_7, height=8))
    assert load(path) == MEMORY
    save(path, later)
    assert load(path) == later
    assert [each.name for each in path.parent.iterdir()] == ["chain.json"]


def test_the_checkpoint_of_a_hundred_validators_fits_the_file_that_is_read(tmp_path: Path) -> None:
    authorities = tuple(
        replace(validator_set(0, 1).authorities[0], account=bytes([i]) * 32, bls_key=bytes([i]) * 48)
        for i in range(100)
    )
    path = tmp_path / "chain.json"
    save(path, replace(MEMORY, checkpoint=replace(AT_7, validators=ValidatorSet(1, authorities))))
    assert path.stat().st_size < FILE_BYTES_MAX / 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("height", -1),
        ("height", True),
        ("height", 2**32),
        ("timeMs", 1.5),
        ("blockHash", "11" * 31),
        ("blockHash", 7),
        ("stateRoot", "zz" * 32),
        ("authorities", []),
        ("authorities", [["11" * 32, "22" * 47]]),
        ("authorities", [["11" * 32, "22" * 48], ["11" * 32, "33" * 48]]),
        ("authorities", 7),
        ("setId", None),
        ("runtime", []),
    ],
)
def test_a_file_with_a_wrong_field_is_refused_and_the_message_says_what_to_do(
    tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "chain.json"
    save(path, MEMORY)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(CheckpointError, match="remove it, and start again from --genesis FILE"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b"[" * 100_000, b" " * (FILE_BYTES_MAX + 1)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chain.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"chain\.json is no checkpoint of this program"):
        load(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    save(path, MEMORY)
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "setId"}))
    with pytest.raises(CheckpointError, match="no 'setId'"):
        load(path)


def test_the_genesis_file_makes_the_first_checkpoint() -> None:
    first = Checkpoint.of(load_genesis(TESTNET))
    assert (first.height, first.time_ms, first.block_hash) == (0, 0, first.genesis_hash)
    assert (first.validators.set_id, first.validators.n) == (0, 4)


def test_a_block_is_of_now_within_the_bounds_and_no_further() -> None:
    at = AT_7.time_ms
    check_age(AT_7, at + AGE_SECONDS_MAX * 1000)
    check_age(AT_7, at - AHEAD_SECONDS_MAX * 1000)
    check_age(AT_7, at + 10**9, age_seconds_max=10**6)
    with pytest.raises(Stale, match=r"block that it shows, 7, is 2 min old: .* \(--max-age 121 accepts it\)"):
        check_age(AT_7, at + (AGE_SECONDS_MAX + 1) * 1000)
    with pytest.raises(Stale, match="block 7 is 61 s ahead of this device's clock: set the clock"):
        check_age(AT_7, at - (AHEAD_SECONDS_MAX + 1) * 1000)
    check_age(replace(AT_7, height=0, time_ms=0), at)


def test_a_checkpoint_is_trusted_for_as_long_as_its_validators_have_something_to_lose() -> None:
    check_trust(AT_7, AT_7.time_ms + TRUST_SECONDS_MAX * 1000)
    with pytest.raises(LightError, match=r"block 7, is 4 d old, and after 4 d .* give it with --trust HASH"):
        check_trust(AT_7, AT_7.time_ms + (TRUST_SECONDS_MAX + 1) * 1000)
    check_trust(replace(AT_7, height=0, time_ms=0), AT_7.time_ms)


def test_ages_are_shown_in_units_that_people_count_in() -> None:
    assert [show_age(seconds) for seconds in (0, 119, 120, 7199, 7200, 172_799, 172_800)] == [
        *("0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d")
    ]


def test_the_highest_proven_block_counts() -> None:
    low = Answer("ws://low", AT_7, "old")
    high = Answer("ws://high", replace(AT_7, height=8), "new")
    assert Findings([low, high], [Fault("ws://liar", Untrue("it lies"))]).best() is high


def test_without_any_answer_every_fault_is_told() -> None:
    findings = Findings[None](faults=[Fault("ws://a", Untrue("a lies")), Fault("ws://b", LightError("b lies"))])
    with pytest.raises(LightError, match=r"^ws://a: a lies; ws://b: b lies$"):
        findings.best()


def test_two_proven_blocks_of_one_height_are_a_fork_and_neither_is_believed() -> None:
    one, other = Answer("ws://a", AT_7, 1), Answer("ws://b", replace(AT_7, block_hash=b"\4" * 32), 2)
    with pytest.raises(Fork, match=r"sealed two blocks of height 7: .* believe neither"):
        Findings([one, other]).best()


def test_a_fork_that_one_node_proves_is_not_outvoted() -> None:
    with pytest.raises(Fork, match="ws://b: two chains"):
        Findings([Answer("ws://a", AT_7, 1)], [Fault("ws://b", Fork("two chains"))]).best()


def test_a_nodes_own_words_are_shown_in_one_short_line() -> None:
    told = str(Fault("ws://a", LightError("refuses:\n\x1b[31m" + "x" * 10_000)))
    assert told.startswith("ws://a: refuses:??[31mxxx")
    assert len(told) < 700
    assert told.isprintable()
