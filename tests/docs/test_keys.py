"""docs/keys.md: every command of its first block and of the last does what is said beside it, in that order."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chain.cli import main
from chain.keystore import KeyFile, read_key, write_private
from chain.primitives import ss58
from chain.primitives.keys import DEV_PHRASE, Keypair, Scheme
from chain.wallet_json import encode
from tests.chain.test_cli_keys import standard_input
from tests.docs.pages import ROOT, commands
from tests.ports import free_port

CAROL = Keypair.from_uri("//Carol", Scheme.SR25519)


@pytest.mark.slow
def test_the_pages_commands_do_what_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    # What people type; nobody sits at a terminal here that a phrase could be shown at.
    monkeypatch.setattr("chain.cli_keys.show_terminal", lambda text: bool(text))
    write_private(tmp_path / "password", b"correct horse\n")
    (tmp_path / "wallet.json").write_bytes(encode(CAROL, "correct horse", "Carol", 42, datetime.now(UTC)))
    said: dict[str, str] = {}
    seen = {"ADDRESS": "", "SIGNATURE": ""}
    for line in commands("docs/keys.md", "Keys", "A validator's session key"):
        program, group, command, *words = shlex.split(line)
        assert (program, group) == ("potchain", "key")
        arguments = [seen.get(word, word) for word in words]
        if command not in ("list", "verify"):
            arguments += ["--password-filename", "password"]
        if command in ("new", "import", "rotate"):
            arguments += ["--memory", "1"]
        if command == "rotate":
            arguments += ["--new-password-filename", "password"]
        with standard_input(f"{DEV_PHRASE}\n"), pytest.raises(SystemExit) as ended:
            main(["key", command, *arguments])
        output = capsys.readouterr()
        assert (ended.value.code or 0, output.err) == (0, ""), line
        said[" ".join((command, *words))] = output.out
        if command == "inspect":
            seen["ADDRESS"] = output.out.split()[2]
        if command == "sign":
            seen["SIGNATURE"] = output.out.strip()
    listed = said["list"].splitlines()
    assert [line.split()[:2] for line in listed] == [["alice", "ed25519"], ["bob", "ed25519"], ["carol", "sr25519"]]
    assert seen["ADDRESS"] in listed[0]
    assert said["verify ADDRESS SIGNATURE --message Ship it"].startswith(f"valid: {seen['ADDRESS']} has signed")
    assert json.loads((tmp_path / "alice.json").read_text())["address"] == seen["ADDRESS"]
    assert "potchain validator set-keys --key alice" in said["rotate alice --session"]
    found = read_key(tmp_path / "home" / "potchain" / "keys" / "alice.key")
    assert isinstance(found, KeyFile)
    assert found.session == 1
    assert sorted(os.listdir(tmp_path)) == ["alice.json", "home", "password", "wallet.json"]


@pytest.mark.slow
def test_a_worker_takes_the_password_from_a_file_or_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    write_private(tmp_path / "alice.password", b"correct horse\n")
    with standard_input(f"{DEV_PHRASE}\n"), pytest.raises(SystemExit):
        main(["key", "import", "alice", "--password-filename", "alice.password", "--memory", "1"])
    for command in commands("docs/keys.md", "Passwords"):
        program, rest = command.replace("ws://127.0.0.1:9944", f"ws://127.0.0.1:{free_port()}").split(maxsplit=1)
        assert program == "potchain"
        with subprocess.Popen(
            f"exec {sys.executable} -m chain --base-path {tmp_path} {rest}",
            shell=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as worker:
            assert worker.stdout is not None
            assert f"works as {ss58.encode(Keypair.from_uri(DEV_PHRASE).public)}" in worker.stdout.readline()
            worker.send_signal(signal.SIGINT)
