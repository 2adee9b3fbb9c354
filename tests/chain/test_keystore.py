"""Key files: whole and lasting, or not there; opened by their password alone, and by nothing that was changed."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cli_common import EXIT_FAILED, fault_of
from chain.key_source import KeySource
from chain.keystore import (
    KEY_FILE_BYTES_MAX,
    KeyFile,
    KeyFileError,
    Keystore,
    NoSuchKey,
    WrongPassword,
    read_key,
    read_secret,
    write_private,
)
from chain.primitives.keys import DEV_PHRASE, KeyUriError, Scheme, Secret
from chain.primitives.sealing import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, PASSES_MAX, Cost
from chain.wallet_json import WalletExport

CHEAP = Cost(1, MEMORY_BYTES_MIN)
NOW = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
SECRET = Secret(f"{DEV_PHRASE}//Alice", Scheme.SR25519, session=3)


def sealed(secret: Secret = SECRET, password: str | None = "correct horse") -> KeyFile:
    return KeyFile.of(secret, password, created=NOW, cost=CHEAP)


uris = st.builds(
    "{}{}".format,
    st.sampled_from([DEV_PHRASE, "0x" + "17" * 32]),
    st.lists(st.from_regex(r"//[a-zäöü]{1,40}", fullmatch=True), max_size=4).map("".join),
)


@given(uri=uris, scheme=st.sampled_from(Scheme), password=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(max_examples=25, deadline=None)
def test_a_key_comes_back_as_it_was_kept(uri: str, scheme: Scheme, password: str) -> None:
    secret = Secret(uri, scheme, session=2)
    assert KeyFile.decode(sealed(secret, password).encode()).open(password) == secret
    assert KeyFile.decode(sealed(secret, None).encode()).open(None) == secret


def test_a_password_is_the_same_however_its_letters_are_spelled() -> None:
    assert sealed(password="Zo\u00eb").open("Zoe\u0308") == SECRET


def test_a_file_says_whose_key_it_is_and_nothing_of_the_secret() -> None:
    data = sealed().encode()
    fields = json.loads(data)
    salt, nonce, body = fields["argon2id"].pop("salt"), fields.pop("nonce"), fields.pop("sealed")
    assert fields == {
        "format": "potchain key",
        "version": 1,
        "scheme": "sr25519",
        "address": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "kind": "phrase",
        "created": "2026-11-26T12:30:00Z",
        "session": 3,
        "argon2id": {"passes": 1, "memory_bytes": 8192},
    }
    assert (len(salt), len(nonce), len(body)) == (32, 48, 2 * (len(SECRET.uri) + 16))
    assert sealed().encode() != data  # Neither salt nor nonce is used twice.
    for shown in (repr(sealed()), repr(sealed(password=None)), repr(SECRET)):
        assert "bottom" not in shown


def test_each_byte_that_is_changed_is_refused_before_or_by_the_seal() -> None:
    data = sealed().encode()
    reasons = set()
    for position in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            changed = data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :]
            with pytest.raises(KeyFileError) as refused:
                KeyFile.decode(changed).open("correct horse")
            reasons.add(str(refused.value).partition(";")[0])
    assert "wrong password, or the file was changed" in reasons
    for cut in range(len(data)):
        with pytest.raises(KeyFileError):
            KeyFile.decode(data[:cut])
    with pytest.raises(KeyFileError, match="not as it was written"):
        KeyFile.decode(data + b"\n")


def test_what_a_file_says_openly_is_sealed_in_with_the_secret() -> None:
    key = sealed()
    alice = Secret("//Bob").keypair().public
    for changed in (
        replace(key, scheme=Scheme.ED25519),
        replace(key, public=alice),
        replace(key, kind="seed"),
        replace(key, created="2026-11-26T12:30:01Z"),
        replace(key, session=4),
    ):
        with pytest.raises(WrongPassword):
            KeyFile.decode(changed.encode()).open("correct horse")


def test_a_plain_file_whose_secret_is_another_accounts_is_refused() -> None:
    with pytest.raises(KeyFileError, match="of another account"):
        replace(sealed(password=None), body=b"//Bob").open(None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"passes": 1', f'"passes": {PASSES_MAX + 1}', "expected 1 to 10 passes, got 11; nothing was tried"),
        ('"passes": 1', '"passes": 0', "expected 1 to 10 passes, got 0"),
        ('"memory_bytes": 8192', f'"memory_bytes": {100 << 30}', "bytes of memory, got 107,374,182,400; nothing"),
        ('"memory_bytes": 8192', f'"memory_bytes": {MEMORY_BYTES_MAX + 1}', "1,073,741,824 bytes of memory"),
        ('"memory_bytes": 8192', '"memory_bytes": 8192.0', "damaged, or was edited"),
        ('"passes": 1', '"passes": true', "damaged, or was edited"),
        ('"version": 1', '"version": 2', "of another program, or a newer one"),
        ('"session": 3', '"session": -1', "damaged, or was edited"),
        ('"session": 3', '"session": 1e3', "damaged, or was edited"),
        ('"kind": "phrase"', '"kind": ["phrase"]', "damaged, or was edited"),
        ('"created": "2026', '"created": "9999999', "damaged, or was edited"),
        ('"scheme": "sr25519"', '"scheme": "ecdsa"', "damaged, or was edited"),
        ('"scheme": "sr25519"', '"scheme": null', "damaged, or was edited"),
        ('"version": 1', '"version": 1,\n "version": 1', "not as it was written"),
        ('"kind": "phrase"', '"kind": "phr\\u0061se"', "not as it was written"),
    ],
)
def test_a_hostile_file_costs_nothing_and_is_refused_with_a_reason(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = sealed().encode().decode()
    assert old in text
    path = tmp_path / "key"
    write_private(path, text.replace(old, new).encode())
    with pytest.raises(KeyFileError, match=message):
        read_key(path)


@pytest.mark.parametrize(
    "data", [b"{", b"{}", b"[" * 4000, b"{" * 4000, b'{"format":' * 400, b"{\xff", b'{"a":' + b"9" * 4000]
)
def test_no_bytes_make_the_decoder_raise_anything_else(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        KeyFile.decode(data)
    with pytest.raises(KeyFileError):
        WalletExport.decode(data)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200, deadline=None)
def test_garbage_is_no_key(data: bytes) -> None:
    for decode in (KeyFile.decode, WalletExport.decode):
        with pytest.raises(KeyFileError):
            decode(data)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    path.chmod(0o600)
    tracemalloc.start()
    with pytest.raises(KeyFileError, match="at most 4,096 bytes, got more"):
        read_key(path)
    assert tracemalloc.get_traced_memory()[1] < 100 * KEY_FILE_BYTES_MAX
    tracemalloc.stop()


def test_a_secret_without_an_account_of_its_scheme_is_not_kept() -> None:
    with pytest.raises(KeyUriError, match="hard junctions"):
        sealed(Secret("//Alice/soft", Scheme.ED25519))
    assert sealed(Secret("//Alice/soft", Scheme.SR25519)).open("correct horse").accounts().keys() == {Scheme.SR25519}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_reach_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_private(path, sealed().encode())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"can be read by others; close it with: chmod 600 {path}$"):
        read_key(path)


def test_a_keystore_is_made_for_its_owner_alone_and_refused_where_it_is_open(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "data" / "keys")
    assert keystore.names() == []
    keystore.make()
    assert keystore.path.stat().st_mode & 0o777 == 0o700
    write_private(keystore.file("alice"), sealed().encode())
    write_private(keystore.path / "a.b.key", sealed().encode())  # no name: it would be taken for a file's
    os.mkfifo(keystore.file("pipe"), 0o600)  # Whoever read it would wait for a writer.
    assert keystore.names() == ["alice"]
    with pytest.raises(NoSuchKey):
        KeySource("pipe", keystore).open()
    keystore.path.chmod(0o750)
    for check in (keystore.check, keystore.make):
        with pytest.raises(KeyFileError, match=f"can be entered by others; close it with: chmod 700 {keystore.path}$"):
            check()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a.b", "-o", "a" * 65, "ä", "."])
def test_a_name_that_would_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="a key's name has letters"):
        Keystore(tmp_path).file(name)


def test_a_new_key_is_flushed_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write_private(tmp_path / "key", b"//Alice\n")
    assert [path.name.split(".")[0] for path in flushed] == ["key", tmp_path.name]
    assert read_secret(tmp_path / "key").uri == "//Alice"
    with pytest.raises(KeyFileError, match="exists already and is left as it is"):
        write_private(tmp_path / "key", b"//Bob\n")
    assert read_secret(tmp_path / "key").uri == "//Alice"
    write_private(tmp_path / "key", b"//Bob\n", over=True)
    assert read_secret(tmp_path / "key").uri == "//Bob"
    with pytest.raises(NoSuchKey):
        read_secret(tmp_path / "none")


@pytest.mark.parametrize("over", [False, True])
def test_a_disk_without_room_keeps_no_half_of_a_key_and_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    def refuse(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "key"
    if over:
        write_private(path, b"//Bob\n")
    before = list(tmp_path.iterdir())
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(KeyFileError, match="No space left on device; nothing of it is left") as caught:
            write_private(path, b"//Alice\n", over=over)
    fault = fault_of(caught.value)
    assert fault is not None
    assert fault.exit_code == EXIT_FAILED
    assert list(tmp_path.iterdir()) == before
    assert not over or read_secret(path).uri == "//Bob"
    write_private(path, b"//Alice\n", over=over)
    assert read_secret(path).uri == "//Alice"


def test_a_key_file_has_its_name_when_it_is_whole_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the process leaves no file with half a secret."""
    path, real = tmp_path / "key", Path.hardlink_to
    seen = []

    def link(name: Path, target: Path) -> None:
        seen.append((path.exists(), target.read_text(), target.stat().st_mode & 0o777))
        real(name, target)

    monkeypatch.setattr(Path, "hardlink_to", link)
    write_private(path, b"//Alice\n")
    assert seen == [(False, "//Alice\n", 0o600)]
    assert list(tmp_path.iterdir()) == [path]
