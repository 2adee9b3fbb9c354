"""`potchain genesis`: a chain of validators who have told their keys, and files that are checked as nodes do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain import cli
from chain.development import address
from genesis.spec import load
from runtime.modules.balances import POT
from tests.chain.test_cli import TESTNET


@pytest.fixture(autouse=True)
def _nobody_at_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def public(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> Path:
    """What an operator sends: the output of `potchain key inspect` in a file."""
    assert run("key", "inspect", f"//{name}") == 0
    file = tmp_path / f"{name}.public"
    file.write_text(capsys.readouterr().out)
    return file


def test_a_chain_of_validators_who_sent_their_public_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [public(tmp_path, capsys, name) for name in ("Alice", "Bob", "Charlie", "Dave")]
    words = [word for file in files for word in ("--validator", file)]
    output = tmp_path / "genesis.json"
    more = ("--bootnode", "192.0.2.1:30333", "--balance", f"{address('Eve')}=1.5", "--sudo", address("Alice"))
    assert run("genesis", "new", "--name", "Our Chain!", "-o", output, *words, *more) == 0
    out = capsys.readouterr().out
    assert "Our Chain!, 4 validators, genesis hash 0x" in out
    assert f"potchain --genesis {output} --validator KEY" in out
    spec = load(output)
    assert (spec.name, spec.id, spec.chain_type, spec.development) == ("Our Chain!", "our_chain", "Live", None)
    assert list(map(str, spec.bootnodes)) == ["192.0.2.1:30333"]
    balances = dict(json.loads(output.read_text())["genesis"]["balances"]["balances"])
    assert balances == {
        **{address(name): 2000 * POT for name in ("Alice", "Bob", "Charlie", "Dave")},
        address("Eve"): POT * 3 // 2,
    }
    assert run("genesis", "check", output) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].removeprefix("genesis hash  ") in out
    assert lines[2:5] == [
        "validators    4, of which 1 may be faulty",
        "issuance      8,001.5 POT",
        "bootnodes     192.0.2.1:30333",
    ]


def test_a_chain_of_development_keys_runs_on_one_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "genesis.json"
    assert run("genesis", "new", "--name", "dev", "-o", output, "--development", "2", "--type", "Local") == 0
    assert f"potchain --genesis {output}\n" in capsys.readouterr().out
    spec = load(output)
    assert spec.development is not None
    assert [key.name for key in spec.development.validators] == ["alice", "bob"]


def test_an_entry_may_be_json_and_the_chain_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = public(tmp_path, capsys, "Alice")
    assert run("genesis", "new", "--name", "x", "-o", tmp_path / "one.json", "--validator", text) == 0
    entry = json.loads((tmp_path / "one.json").read_text())["genesis"]["validators"]["authorities"][0]
    (tmp_path / "alice.json").write_text(json.dumps(entry))
    words = ("--validator", tmp_path / "alice.json")
    assert run("genesis", "new", "--name", "x", "-o", tmp_path / "two.json", *words) == 0
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_what_is_no_validators_entry_is_refused_and_no_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = public(tmp_path, capsys, "Alice"), public(tmp_path, capsys, "Bob")
    proof_of_bob = bob.read_text().split("proof")[1]
    (tmp_path / "mixed").write_text(alice.read_text().split("proof")[0] + "proof" + proof_of_bob)
    (tmp_path / "half").write_text(alice.read_text().split("validator")[0])
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "long").write_text(alice.read_text() + " " * 20_000)
    for words, message in (
        (("--validator", tmp_path / "mixed"), "mixed: the proof does not show that who has account"),
        (("--validator", tmp_path / "half"), "half: expected what `potchain key inspect KEY` prints"),
        (("--validator", tmp_path / "bytes"), "missing: account, bls, proof"),
        (("--validator", tmp_path / "long"), "long: expected what"),
        (("--validator", tmp_path / "none"), "none: No such file"),
        (("--validator", alice, "--validator", alice), "validators.authorities[1]: "),
        (("--validator", alice, "--endowment", "1"), "the account cannot bond"),
        (("--validator", alice, "--endowment", "1,5"), "--endowment: expected an amount"),
        (("--validator", alice, "--balance", "nobody=1"), "balances[1][0]: expected an SS58 address"),
        (("--validator", alice, "--bootnode", "here"), "bootnodes[0]: expected HOST:PORT"),
        (("--validator", alice, "--type", "Toy"), "chainType: expected one of Development, Local, Live"),
        (("--validator", alice, "--id", "../up"), "id: expected a name of letters"),
        (("--validator", alice, "--development", "1"), "give one of them"),
        ((), "expected validators, each with --validator FILE, or --development N"),
    ):
        assert run("genesis", "new", "--name", "x", "-o", tmp_path / "genesis.json", *words) == 2, words
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1
        assert not list(tmp_path.glob("genesis.json*"))


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "genesis.json"
    output.write_text("mine")
    assert run("genesis", "new", "--name", "x", "-o", output, "--development", "1") == 2
    assert "exists already and is left as it is" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_a_file_is_checked_to_its_first_state_and_its_blobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("genesis", "check", TESTNET) == 0
    assert "each as its name says" in capsys.readouterr().out
    document = json.loads(TESTNET.read_text())
    document["genesis"]["validators"]["authorities"][2]["bls"] = "0x00"
    copy = tmp_path / "genesis.json"
    copy.write_text(json.dumps(document))
    assert run("genesis", "check", copy) == 2
    told = capsys.readouterr().err
    assert "genesis.validators.authorities[2].bls: expected 0x and 96 lower-case hex digits, got '0x00'" in told
    document = json.loads(TESTNET.read_text())
    copy.write_text(json.dumps(document))
    assert run("genesis", "check", copy) == 2
    assert "blobs: expected a folder" in capsys.readouterr().err
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ("00" * 32)).write_bytes(b"other")
    assert run("genesis", "check", copy) == 2
    assert "has another root than its name says" in capsys.readouterr().err
