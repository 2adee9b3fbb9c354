"""`potchain key`, and how every command takes one: real files, a real terminal, and what other users can see of it."""

from __future__ import annotations

import base64
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chain.cli import main
from chain.key_source import KeySource, Passwords
from chain.keystore import KeyFile, KeyFileError, Keystore, read_key, write_private
from chain.message import Message
from chain.primitives import bls, ss58
from chain.primitives.keys import DEV_PHRASE, Keypair, Scheme, Secret
from chain.primitives.sealing import MEMORY_BYTES_MIN, MODERATE, Cost
from chain.validator_keys import ValidatorKeys
from chain.wallet_json import _Scrypt
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
TESTNET = ROOT / "genesis" / "testnet.json"
CHEAP = Cost(1, MEMORY_BYTES_MIN)  # what a file says it costs is what it costs
NOW = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
PASSWORD = "correct horse"
SECRET = Secret(f"{DEV_PHRASE}//Alice")
ALICE, BOB = Keypair.from_uri("//Alice"), Keypair.from_uri("//Bob")
SECONDS_MAX = 180


class Desk:
    """A keystore with Alice's key under a password, and that password in a file."""

    def __init__(self, path: Path) -> None:
        self.keystore = Keystore(path / "keys")
        self.keystore.make()
        self.keep("alice", SECRET)
        self.password = path / "password"
        write_private(self.password, f"{PASSWORD}\n".encode())
        self.options = ("--keystore-path", str(self.keystore.path), "--password-filename", str(self.password))

    def keep(self, name: str, secret: Secret, password: str | None = PASSWORD) -> Path:
        path = self.keystore.file(name)
        write_private(path, KeyFile.of(secret, password, created=NOW, cost=CHEAP).encode())
        return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What a command prints; it ends well and complains of nothing."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert (ended.value.code or 0, said.err) == (0, "")
    return said.out


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 2) -> str:
    """What it says when it refuses: one line."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (code, "", 1), said
    return said.err.removeprefix("error: ")


class Person:
    """Somebody at a terminal at which a command runs: types what is asked for, and sees what is shown."""

    def __init__(self, master: int) -> None:
        self.seen = ""
        self._master = master

    def sees(self, text: str) -> None:
        until = time.monotonic() + SECONDS_MAX
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, until - time.monotonic()))
            assert ready, f"{text!r} was not shown: {self.seen!r}"
            self.seen += os.read(self._master, 4096).decode().replace("\r\n", "\n")

    def types(self, text: str) -> None:
        os.write(self._master, text.encode() + b"\n")


@contextmanager
def at_a_terminal(*words: str | Path) -> Iterator[tuple[Person, subprocess.Popen[str]]]:
    master, slave = pty.openpty()
    # Who begins a session and opens a terminal has it as its own.
    begin = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.executable, sys.argv[2:])"
    command = [sys.executable, "-c", begin, os.ttyname(slave), sys.executable, "-m", "chain", *map(str, words)]
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        ) as process:
            try:
                yield Person(master), process
            finally:
                process.kill()
    finally:
        os.close(master)
        os.close(slave)  # Until then: a terminal that nobody has open cannot be read.


def test_a_new_key_asks_twice_shows_its_phrase_at_the_terminal_alone_and_opens_again(tmp_path: Path) -> None:
    keystore = tmp_path / "keys"
    with at_a_terminal("key", "new", "alice", "--words=24", "--memory=1", "--keystore-path", keystore) as (
        person,
        process,
    ):
        person.sees("Password for alice.key: ")
        person.types(PASSWORD)
        person.sees("The same again: ")
        person.types(PASSWORD)
        printed, complaints = process.communicate(timeout=SECONDS_MAX)
        person.sees("secret phrase")
        person.sees("\n")
        person.sees("\n")
    (phrase,) = person.seen.splitlines()[-1:]
    assert (process.returncode, complaints) == (0, "")
    assert len(phrase.split()) == 24
    assert phrase not in printed
    assert PASSWORD not in person.seen + printed  # typed unseen
    found = read_key(keystore / "alice.key")
    assert isinstance(found, KeyFile)
    assert found.lock is not None
    assert found.lock.cost == Cost(3, 1 << 20)
    secret = found.open(PASSWORD)
    assert secret == Secret(phrase)
    assert all(ss58.encode(keypair.public) in printed for keypair in secret.accounts().values())
    assert keystore.stat().st_mode & 0o777 == 0o700
    write_private(tmp_path / "password", PASSWORD.encode())
    options = ("--keystore-path", keystore, "--password-filename", tmp_path / "password")
    with at_a_terminal("key", "export", "alice", "--phrase", *options) as (person, process):
        printed, complaints = process.communicate(timeout=SECONDS_MAX)
        person.sees(f"secret            {phrase}\n")
    assert (process.returncode, printed, complaints) == (0, "", "")


def test_two_passwords_that_differ_keep_nothing(tmp_path: Path) -> None:
    with at_a_terminal("key", "new", "-o", tmp_path / "my.key") as (person, process):
        person.sees("Password for my.key: ")
        person.types(PASSWORD)
        person.sees("The same again: ")
        person.types("correct hose")
        _, complaint = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, complaint) == (2, "error: the two passwords are not the same; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_a_password_is_asked_of_nobody(desk: Desk) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chain", "key", "inspect", desk.keystore.file("alice")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS_MAX,
        start_new_session=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("; give it with --password-filename FILE or --password-fd NUMBER\n")


def test_a_key_is_the_same_by_its_name_its_file_a_pipe_and_its_uri(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    expected = run(capsys, "key", "inspect", "//Alice")
    assert ss58.encode(ALICE.public) in expected
    plain = tmp_path / "plain"
    write_private(plain, b"# made by hand\n//Alice\n")
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write(SECRET.uri)
    for key in ("alice", desk.keystore.file("alice"), plain, f"/dev/fd/{reading}"):
        assert run(capsys, "key", "inspect", key, *desk.options) == expected
    os.close(reading)


def test_a_password_comes_by_a_descriptor(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{PASSWORD}\nand more".encode())
    words = ("key", "inspect", "alice", *desk.options[:2], "--password-fd", str(reading))
    assert ss58.encode(ALICE.public) in run(capsys, *words)
    os.write(writing, b"another\n")
    message = refused(capsys, *words, code=1)
    assert message == f"key file {desk.keystore.file('alice')}: wrong password, or the file was changed\n"
    os.close(writing)
    assert "expected a line of 1 to 1024 bytes, got 0" in refused(capsys, *words)
    os.close(reading)
    assert f"cannot read descriptor {reading}: Bad file descriptor; open it, as in" in refused(capsys, *words)
    assert "exclude each other" in refused(capsys, *words, *desk.options[2:])


@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_password_file_that_others_can_read_is_refused(
    desk: Desk, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    desk.password.chmod(mode)
    message = refused(capsys, "key", "inspect", "alice", *desk.options)
    assert message == f"password file {desk.password} can be read by others; close it with: chmod 600 {desk.password}\n"


@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_node_and_a_worker_refuse_to_start_with_a_key_that_others_can_read(
    desk: Desk, capsys: pytest.CaptureFixture[str], mode: int, tmp_path: Path
) -> None:
    path = desk.keystore.file("alice")
    path.chmod(mode)
    base = tmp_path / "data"
    for words in (
        ("--genesis", TESTNET, "--validator", path, "--rpc-port", "44010", "--port", "44020", "--no-prometheus"),
        ("worker", "--key", path),
        ("tx", "transfer", "--from", path, ss58.encode(BOB.public), "1", "--yes"),
    ):
        more = () if words[0] == "tx" else ("--base-path", base)
        message = refused(capsys, *words, *more)
        assert message == f"key file {path} can be read by others; close it with: chmod 600 {path}\n"
    assert not base.exists()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (DEV_PHRASE, "a secret on the command line can be read by every user of this machine"),
        (f"{DEV_PHRASE}//Alice", "keep the key with `potchain key import NAME`, then give its NAME; or give - to be"),
        ("0x" + "17" * 32, "a secret on the command line"),
        ("//Alice///hush", "a password on the command line"),
        ("", "expected a key's name, a key file, or //Name for a development account, got nothing"),
        ("carol", "there is no key carol in "),
        ("./carol", "cannot read key file carol: No such file or directory; make one with: potchain key new -o carol"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_names_no_key_or_is_one_itself_is_refused_and_not_repeated(
    desk: Desk, capsys: pytest.CaptureFixture[str], key: str, message: str
) -> None:
    said = refused(capsys, "task", "cancel", "0", "--key", key, *desk.options)
    assert message in said
    for secret in ("bottom", "17" * 32, "hush"):
        assert secret not in said


def test_a_name_that_is_a_key_and_a_file_here_is_neither(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_private(tmp_path / "alice", b"//Bob\n")
    assert "give ./alice for the file" in refused(capsys, "key", "inspect", "alice", *desk.options)
    assert ss58.encode(BOB.public) in run(capsys, "key", "inspect", "./alice")


def test_other_users_see_no_secret_of_a_running_process(desk: Desk, tmp_path: Path) -> None:
    """All that the system shows of a process's start to others: its arguments; and to its own user, its environment."""
    reading, writing = os.pipe()
    url = f"ws://127.0.0.1:{free_port()}"
    options = ("--key", "alice", *desk.options[:2], f"--node={url}", f"--base-path={tmp_path}")
    with subprocess.Popen(
        [sys.executable, "-m", "chain", "aggregator", *options, "--password-fd", str(reading)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        pass_fds=(reading,),
    ) as process:
        os.close(reading)
        os.write(writing, f"{PASSWORD}\n".encode())
        os.close(writing)
        try:
            assert process.stdout is not None
            assert f"works as {ss58.encode(ALICE.public)}" in process.stdout.readline()
            shown = b"".join((Path("/proc") / str(process.pid) / name).read_bytes() for name in ("cmdline", "environ"))
            limits = (Path("/proc") / str(process.pid) / "limits").read_text()
        finally:
            process.send_signal(signal.SIGINT)
    assert b"alice" in shown
    for secret in (PASSWORD.encode(), b"bottom drive", ALICE.secret_seed, ALICE.secret_seed.hex().encode()):
        assert secret not in shown
    (core,) = [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core == "0"


def test_keys_are_listed_without_a_password_and_what_is_broken_is_named(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = desk.keep("bob-1", Secret("0x" + "17" * 32, Scheme.SR25519), None)
    address = ss58.encode(Keypair.from_uri("0x" + "17" * 32, Scheme.SR25519).public)
    words = ("key", "list", "--keystore-path", desk.keystore.path)
    assert run(capsys, *words).splitlines() == [
        "alice  ed25519  5FA9nQDVg267DEd8m1ZypXLBnvN7SFxYwV7ndqSYGiN9TTpu  2026-11-26T12:30:00Z  phrase",
        f"bob-1  sr25519  {address}  2026-11-26T12:30:00Z  seed, no password",
    ]
    assert json.loads(run(capsys, *words, "--json"))[1] == {
        "name": "bob-1",
        "scheme": "sr25519",
        "address": address,
        "kind": "seed",
        "sealed": False,
        "created": "2026-11-26T12:30:00Z",
        "session": 0,
    }
    bob.write_bytes(bob.read_bytes()[:-5])
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out.startswith("alice ")
    assert said.err == (
        f"error: key file {bob}: it is damaged, or was edited; take it from a backup, or import the phrase\n"
    )
    assert "no keys in" in run(capsys, "key", "list", "--keystore-path", desk.keystore.path / "none")


def test_an_address_and_a_public_key_are_shown_on_any_network(capsys: pytest.CaptureFixture[str]) -> None:
    there = "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"
    public = "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d"
    here = ["account    address 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", f"           public  {public}"]
    assert run(capsys, "key", "inspect", there).splitlines() == ["network    0", *here]
    assert run(capsys, "key", "inspect", "--public", public).splitlines() == here
    assert there in run(capsys, "key", "inspect", "--public", public, "--prefix", "0")
    assert "expected 0x and 64 hex digits, got '0x12'" in refused(capsys, "key", "inspect", "--public", "0x12")


def test_a_validators_keys_are_shown_with_a_proof_that_holds(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "key", "inspect", "alice", *desk.options).split()
    key, proof = (bytes.fromhex(shown[shown.index(word) + 1].removeprefix("0x")) for word in ("BLS", "proof"))
    assert bls.verify_possession(key, ALICE.public, proof)
    assert key == bls.public_key(ValidatorKeys.from_uri("//Alice").bls_secret)


@contextmanager
def standard_input(text: str) -> Iterator[None]:
    """What a pipe into the command says."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_a_key_is_imported_from_standard_input(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("key", "import", "--no-password", *desk.options)
    with standard_input(f"{DEV_PHRASE}//Alice/soft\n"):
        run(capsys, *words, "soft", "--scheme", "sr25519")
    found = read_key(desk.keystore.file("soft"))
    assert isinstance(found, KeyFile)
    assert found.open(None) == Secret(f"{DEV_PHRASE}//Alice/soft", Scheme.SR25519)
    with standard_input(" ".join([*DEV_PHRASE.split()[:-1], "bottom"]) + "\n"):
        wrong = refused(capsys, *words, "wrong")
    assert wrong.startswith("12 words that are no BIP-39 phrase; expected 12, 15, 18, 21, 24 English")
    assert "bottom" not in wrong
    with standard_input(""):
        assert "standard input: expected a line of 1 to 1024 bytes, got 0" in refused(capsys, *words, "empty")
    with standard_input("//Bob\n"):
        assert "exists already and is left as it is" in refused(capsys, *words, "alice")
    assert desk.keystore.names() == ["alice", "soft"]


def test_a_wallets_export_keeps_its_password_and_comes_back(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.wallet_json._COSTS", (_Scrypt(1 << 13, 10, 8), _Scrypt(1 << 14, 5, 8)))  # its cheapest
    desk.keep("carol", Secret("//Carol/soft", Scheme.SR25519))
    address = ss58.encode(Keypair.from_uri("//Carol/soft", Scheme.SR25519).public)
    file = tmp_path / "carol.json"
    said = run(capsys, "key", "export", "carol", "-o", file, *desk.options)
    assert said == f"sr25519 account {address} written to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    fields = json.loads(file.read_text())
    assert fields["encoding"] == {
        "content": ["pkcs8", "sr25519"],
        "type": ["scrypt", "xsalsa20-poly1305"],
        "version": "3",
    }
    assert (fields["address"], fields["meta"]["name"]) == (address, "carol")
    file.chmod(0o644)  # as browsers leave their downloads
    assert address in run(capsys, "key", "import", "again", "--json", file, "--memory", "1", *desk.options)
    found = KeySource("again", desk.keystore, Passwords(desk.password)).open()
    assert found.accounts().keys() == {Scheme.SR25519}
    assert ss58.encode(found.keypair().public) == address
    other = tmp_path / "other"
    write_private(other, b"another\n")
    wrong = refused(
        *(capsys, "key", "import", "wrong", "--json", file, *desk.options[:2], "--password-filename", other), code=1
    )
    assert wrong == f"{file}: wrong password, or the file was changed\n"
    fields["address"] = ss58.encode(ALICE.public)
    file.write_text(json.dumps(fields))
    assert "its secret is of another account than it says" in refused(
        capsys, "key", "import", "wrong", "--json", file, *desk.options
    )
    file.chmod(0o600)
    assert "is a wallet's export; take it in with" in refused(capsys, "key", "inspect", file)
    assert "give one of them" in refused(capsys, "key", "export", "carol", *desk.options)


def export_of(*numbers: int, **changed: object) -> dict[str, object]:
    """A wallet's export with a cost of scrypt, N, p and r, and nothing sealed in it."""
    cost = b"".join(number.to_bytes(4, "little") for number in numbers)
    return {
        "encoded": base64.b64encode(bytes(32) + cost + bytes(24 + 133)).decode(),
        "encoding": {"content": ["pkcs8", "sr25519"], "type": ["scrypt", "xsalsa20-poly1305"], "version": "3"}
        | changed,
        "address": ss58.encode(ALICE.public),
        "meta": {},
    }


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (export_of(1 << 13, 11, 8), "its cost of scrypt is none that wallets use; nothing was tried"),
        (export_of(1 << 31, 1, 8), "its cost of scrypt is none that wallets use; nothing was tried"),
        (export_of(0, 0, 0), "its cost of scrypt is none that wallets use; nothing was tried"),
        (export_of(version="2"), "expected version 3; export the account again"),
        (export_of(content=["pkcs8", "ecdsa"]), "expected an ed25519 or sr25519 account"),
        (export_of(content=["pkcs8"]), "no account that a polkadot-js wallet has exported"),
        (export_of(type=["xsalsa20-poly1305"]), "sealed in a way that polkadot-js has not"),
        (export_of() | {"encoded": "!"}, "no account that a polkadot-js wallet has exported"),
        (export_of() | {"encoded": ""}, "its cost of scrypt is none that wallets use"),
        (export_of() | {"accounts": []}, "it has several accounts; export each"),
        (export_of(type=["none"]), "what it holds is no key"),
        ({"a": "b" * 20_000}, "expected at most 16,384 bytes"),
    ],
)
def test_a_hostile_export_costs_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path, export: dict[str, object], message: str
) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(export))
    assert message in refused(capsys, "key", "import", "carol", "--json", file, *desk.options)
    assert desk.keystore.names() == ["alice"]


def test_a_new_password_opens_a_key_and_the_old_one_does_no_more(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    write_private(new, b"battery staple\n")
    path = desk.keystore.file("alice")
    said = run(capsys, "key", "rotate", "alice", *desk.options, "--new-password-filename", new)
    assert said == f"{path} has a new password\n"
    found = read_key(path)
    assert isinstance(found, KeyFile)
    assert found.open("battery staple") == SECRET
    assert (found.created, found.lock is not None and found.lock.cost) == ("2026-11-26T12:30:00Z", MODERATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "wrong password" in refused(capsys, "key", "inspect", "alice", *desk.options, code=1)


@pytest.mark.parametrize("scheme", ["ed25519", "sr25519"])
def test_a_message_is_signed_as_wallets_do_and_checked_either_way(
    desk: Desk, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    keypair = SECRET.keypair(Scheme[scheme.upper()])
    address = ss58.encode(keypair.public)
    words = ("key", "sign", "alice", *desk.options, "--scheme", scheme, "--message", "Ship it")
    wrapped, bare = run(capsys, *words).strip(), run(capsys, *words, "--raw").strip()
    for signature, given in (
        (wrapped, ("--message", "Ship it")),
        (wrapped, ("--message", "<Bytes>Ship it</Bytes>")),
        (bare, ("--message", "0x53686970206974", "--hex")),
    ):
        valid = f"valid: {address} has signed this message ({scheme})\n"
        assert run(capsys, "key", "verify", address, signature, *given) == valid
    flipped = bare[:-1] + ("0" if bare[-1] != "0" else "1")
    for who, signature, message in (
        (address, flipped, "Ship it"),
        (ss58.encode(BOB.public), bare, "Ship it"),
        (address, bare, "Ship"),
    ):
        said = refused(capsys, "key", "verify", who, signature, "--message", message, code=1)
        assert said == f"{who} has not signed this message with this signature\n"
    assert Message(b"Ship it").wrapped == b"<Bytes>Ship it</Bytes>"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", "0x00"), "a character is mistyped"),
        (("0x12", "0x00"), "expected an address, or 0x and 64 hex digits, got '0x12'"),
        (("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "0x00"), "expected a signature, 0x and 128 hex digits"),
        (("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "0x02" + "00" * 64), "expected a signature"),
        (
            ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "00" * 64, "--message", "0xz", "--hex"),
            "message in hex",
        ),
    ],
)
def test_what_cannot_be_verified_says_what_was_expected(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "key", "verify", *words)


def test_a_key_is_made_for_one_place(desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    both = ("key", "new", "bob", "-o", tmp_path / "bob.key", "--no-password", *desk.options)
    assert "expected NAME, for a key in the keystore, or -o FILE" in refused(capsys, *both)
    assert "got 'b.o.b'" in refused(capsys, "key", "new", "b.o.b", "--no-password", *desk.options)
    assert "expected ed25519 or sr25519, got 'rsa'" in refused(capsys, "key", "new", "bob", "--scheme", "rsa")
    assert "a phrase has one of" in refused(capsys, "key", "new", "bob", "--words", "13")
    assert "exists already" in refused(capsys, "key", "new", "alice", *desk.options)
    assert desk.keystore.names() == ["alice"]


def test_no_core_is_left_of_a_process_that_has_opened_a_key(desk: Desk) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        KeySource("alice", desk.keystore, Passwords(desk.password)).open()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_a_public_key_is_read_without_a_password_where_the_file_has_it(desk: Desk) -> None:
    assert KeySource("alice", desk.keystore).public(Scheme.ED25519) == ALICE.public
    opened = KeySource("alice", desk.keystore, Passwords(desk.password))
    assert opened.public(Scheme.SR25519) == SECRET.keypair(Scheme.SR25519).public
    reading, writing = os.pipe()
    os.write(writing, b"//Bob\n")
    os.close(writing)
    for text in (f"/dev/fd/{reading}", "//Bob"):
        assert KeySource(text, desk.keystore).public(Scheme.ED25519) == BOB.public
    os.close(reading)


def test_a_machine_without_the_memory_says_so(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (512 << 20), before[1]))
    try:
        said = refused(capsys, "key", "new", "bob", "--memory", "1024", *desk.options)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert said == "no 1024 MiB of memory for Argon2id; close other programs, or give --memory a smaller number\n"
    assert desk.keystore.names() == ["alice"]


def test_a_secret_of_sr25519_alone_has_no_validator(desk: Desk) -> None:
    desk.keep("soft", Secret("//Alice/soft", Scheme.SR25519))
    with pytest.raises(ValueError, match="hard junctions"):
        KeySource("soft", desk.keystore, Passwords(desk.password)).validator()
    with pytest.raises(KeyFileError, match="there is no key none"):
        KeySource("none", desk.keystore).validator()
