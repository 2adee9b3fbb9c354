"""The command line: help that helps, and one line, exit code 2 and nothing written for whatever is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from chain import cli
from chain.cli import main
from chain.development import authority
from chain.folder_lock import lock_folder, sign_lock
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
TESTNET = ROOT / "genesis" / "testnet.json"
SECONDS_MAX = 180  # a start takes one; machines that run the tests may be busy


def potchain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "chain", *map(str, arguments)]
    # In a session of its own: there is no terminal that it could ask or tell anything.
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        cwd=ROOT,
        check=False,
        start_new_session=True,
    )


@contextmanager
def running_node(base: Path, *arguments: str) -> Iterator[list[str]]:
    """A node that has said that it is ready, and all that it said before and then."""
    ports = [f"--rpc-port={free_port()}", f"--port={free_port()}"]
    if not any(argument.startswith("--prometheus-port") for argument in arguments):
        ports.append("--no-prometheus")
    command = [sys.executable, "-m", "chain", f"--genesis={TESTNET}", f"--base-path={base}", *ports, *arguments]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert node.stdout is not None
    lines = list[str]()
    try:
        for line in node.stdout:
            lines.append(line.rstrip())
            if "ready" in line:
                break
        yield lines
    finally:
        node.terminate()
        node.wait(SECONDS_MAX)
        node.stdout.close()


def refusal(*arguments: str | Path) -> str:
    """What the command says when it refuses; checks that it is one line on standard error and exit code 2."""
    done = potchain(*arguments)
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done
    assert done.stderr.count("\n") == 1, done
    return done.stderr


COMMANDS = "|worker|auditor|aggregator|task|task list|task watch|task fetch"
COMMANDS += "|key|key new|key import|key list|key inspect|key export|key rotate|key sign|key verify"
COMMANDS += "|query|account|completion|tx|tx transfer|tx call|tx batch|tx prepare|tx sign|tx submit"
COMMANDS += "|config|config show|db|db check|db revert|genesis|genesis new|doctor"
COMMANDS += "|module|module new|module check|module weigh|task new|task cancel|reward|reward explain"


@pytest.mark.parametrize("command", COMMANDS.split("|"))
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    said = capsys.readouterr()
    assert not ended.value.code
    assert said.err == ""
    assert "Usage:" in said.out
    assert len(said.out.splitlines()) > 5


def test_without_arguments_the_help_says_how_to_start() -> None:
    done = potchain()
    assert done.returncode == 0
    assert "potchain --genesis genesis/testnet.json" in done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("frobnicate", "no such command 'frobnicate'; see: potchain --help"),
        ("--frobnicate", "no such option: --frobnicate; see: potchain --help"),
        ("--rpc-port 70000", "--rpc-port: expected a whole number from 1 to 65535, got '70000'; see: potchain --help"),
        (
            "task watch one",
            "ID: expected a whole number from 0 to 4294967295, got 'one'; see: potchain task watch --help",
        ),
        ("tx transfer --from //Alice", "missing argument 'ADDRESS'; see: potchain tx transfer --help"),
        ("worker --key //Eve --platform abacus", "--platform: expected cpu, cuda or tpu, got 'abacus'"),
    ],
)
def test_a_command_line_that_is_wrong_names_the_help_to_read(command: str, words: str) -> None:
    assert words in refusal(*command.split())


def test_a_group_without_a_command_lists_what_there_is() -> None:
    done = potchain("task")
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "fetch" in done.stderr


def test_a_missing_genesis_file_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    message = refusal("--genesis", tmp_path / "none.json", "--base-path", tmp_path / "data")
    assert "none.json: No such file or directory; give the path of one with --genesis" in message
    assert list(tmp_path.iterdir()) == []


def test_a_genesis_file_that_the_runtime_refuses_names_the_field(tmp_path: Path) -> None:
    genesis = json.loads(TESTNET.read_text())
    del genesis["blobs"]
    genesis["genesis"]["balances"]["balances"][0][1] = "much"
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(genesis))
    message = refusal("--genesis", path, "--base-path", tmp_path / "data", "--validator", "alice")
    assert "balances.balances[0][1]" in message
    assert "much" in message
    assert not (tmp_path / "data").exists()


def test_a_damaged_blob_is_named_and_other_files_beside_it_are_no_matter(tmp_path: Path) -> None:
    genesis = json.loads(TESTNET.read_text())
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(genesis))
    shutil.copytree(TESTNET.parent / "blobs", tmp_path / "blobs")
    (tmp_path / "blobs" / ".DS_Store").write_bytes(b"left by a file manager")
    damaged = next(file for file in sorted((tmp_path / "blobs").iterdir()) if len(file.name) == 64)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    message = refusal("--genesis", path, "--base-path", tmp_path / "data", "--validator", "alice")
    assert damaged.name in message
    assert "damaged" in message


@pytest.mark.parametrize("whole_network", [True, False])
def test_a_folder_of_another_chain_names_both_hashes_and_is_left_alone(tmp_path: Path, whole_network: bool) -> None:
    base = tmp_path / "data"
    with running_node(base, "--validator=alice"):
        pass
    genesis = json.loads(TESTNET.read_text())
    genesis["genesis"]["balances"]["balances"][0][1] += 1
    genesis["blobs"] = str(TESTNET.parent / "blobs")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(genesis))
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    role = () if whole_network else ("--validator", "alice")
    ports = ("--rpc-port", str(free_port()), "--port", str(free_port()), "--no-prometheus")
    message = refusal("--genesis", other, "--base-path", base, *role, *ports)
    assert len(set(re.findall(r"0x[0-9a-f]{64}", message))) == 2
    assert "--base-path" in message
    assert {path: path.stat().st_mtime_ns for path in base.rglob("*")} == before


def test_a_second_node_on_one_folder_is_refused_by_the_lock(tmp_path: Path) -> None:
    with running_node(tmp_path, "--validator=alice"):
        message = refusal(
            *("--genesis", TESTNET, "--base-path", tmp_path, "--validator", "alice"),
            *("--rpc-port", str(free_port()), "--port", str(free_port()), "--no-prometheus"),
        )
    assert "lock" in message
    assert str(tmp_path / "alice") in message


@pytest.mark.parametrize("flag", ["--rpc-port", "--port", "--prometheus-port"])
@pytest.mark.parametrize("whole_network", [True, False])
def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path, flag: str, whole_network: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {each: free_port() for each in ("--rpc-port", "--port", "--prometheus-port")}
        ports[flag] = taken.getsockname()[1]
        role = () if whole_network else ("--validator", "alice")
        options = [str(word) for pair in ports.items() for word in pair]
        message = refusal("--genesis", TESTNET, "--base-path", tmp_path / "data", *role, *options)
    assert f"port {ports[flag]}" in message
    assert flag in message


def test_an_unknown_validator_is_told_who_there_is() -> None:
    assert "alice, bob, charlie, dave" in refusal("--genesis", TESTNET, "--validator", "mallory")


def test_validator_and_full_node_exclude_each_other() -> None:
    assert "exclude each other" in refusal("--genesis", TESTNET, "--validator", "alice", "--full-node")


def test_a_new_key_is_written_for_its_owner_only_and_inspected(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    made = potchain("key", "new", "-o", path, "--no-password")
    assert made.returncode == 0
    assert os.stat(path).st_mode & 0o777 == 0o600
    inspected = potchain("key", "inspect", path)
    addresses = [line for line in inspected.stdout.splitlines() if " address " in line]
    assert made.stdout.splitlines()[1:3] == addresses
    assert made.stdout.endswith(f"potchain key inspect {path}\n")
    assert "exists already" in refusal("key", "new", "-o", path, "--no-password")
    path.chmod(0o644)
    assert "chmod 600" in refusal("key", "inspect", path)


def test_development_keys_have_substrates_well_known_addresses() -> None:
    shown = potchain("key", "inspect", "//Alice").stdout
    assert set(authority("Alice").values()) <= set(shown.split())  # all that a genesis file says of a validator
    assert "5FA9nQDVg267DEd8m1ZypXLBnvN7SFxYwV7ndqSYGiN9TTpu" in shown
    assert "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("key", "inspect", "one two three"), "a secret on the command line can be read by every user"),
        (("worker", "--key", "0x12"), "keep the key with `potchain key import NAME`, then give its NAME"),
        (("key", "inspect", "nowhere.key"), "cannot read key file nowhere.key"),
        (("worker", "--key", "nowhere.key"), "potchain key new"),
    ],
)
def test_a_bad_key_says_what_was_expected(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(*arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--key is missing: a key's name, a key file, or //Name for a development account; make one with: "),
        ("--key //Eve --devices 65", "--devices: expected 1 to 64, got 65"),
        ("--key //Eve --prometheus-external", "--prometheus-external: give --prometheus-port with it"),
        ("--process-id 1", "--process-id and --hosts-secret are for a worker of several hosts: give --coordinator"),
        ("--key //Eve --coordinator here:1", "--hosts-secret is missing: the hosts of a worker know each other by it"),
        ("--key //Eve --coordinator here:1 --hosts-secret SECRET --processes 1", "--processes: expected 2 to 64 hosts"),
        ("--coordinator here:1 --hosts-secret SECRET --process-id 1 --key //Eve", "--key, --node and --genesis are "),
        (
            "--coordinator here:1 --hosts-secret SECRET --process-id 1 --genesis genesis/testnet.json",
            "--key, --node and --genesis are process 0's: the other hosts compute, and need none of them",
        ),
    ],
)
def test_a_worker_says_which_of_its_flags_do_not_fit(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("00" * 32)
    with pytest.raises(SystemExit) as ended:
        main(["worker", f"--base-path={tmp_path}", *words.replace("SECRET", str(tmp_path / "secret")).split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_node_that_is_not_there_is_named() -> None:
    done = potchain("task", "list", "--node", f"ws://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "is the node running?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_worker_without_a_node_says_who_it_is_and_that_it_waits(tmp_path: Path) -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    options = ("--key=//Eve", f"--node={url}", f"--base-path={tmp_path}", "--devices=3")
    command = [sys.executable, "-m", "chain", "worker", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
        assert worker.stdout is not None
        said = [worker.stdout.readline() for _ in range(4)]
        worker.send_signal(signal.SIGINT)
        assert worker.wait(SECONDS_MAX) == 0
    assert "works as 5Ck2miBfCe1JQ4cY3NDsXyBaD6EcsgiVmEFTWwqNSs25XDEq; Ctrl-C stops" in said[0]
    assert "computes on 3 × cpu, up to 3 slots of a round at once" in said[1]
    assert f"cannot reach {url}: connection refused: is the node running?" in said[2]
    assert "no node answers; trying again until one does" in said[3]


def test_a_node_never_imports_jax() -> None:
    code = "import sys, chain.cli, chain.node_life; print(sorted({'jax', 'flax', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("role", ["worker", "auditor", "aggregator"])
def test_a_folder_of_a_role_is_used_by_one_process_alone(role: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    lock = lock_folder(tmp_path / "one")
    sign_lock(lock)
    try:
        message = refusal(role, "--key=//Eve", f"--base-path={tmp_path}", "--name=one", "--node=ws://127.0.0.1:1")
    finally:
        os.close(lock)
    assert message == (
        f"error: the folder {tmp_path / 'one'} is in use by process {os.getpid()}, which holds the lock "
        f"{tmp_path / 'one' / 'LOCK'}: stop that one, or give this one another --name or --base-path\n"
    )


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv[:] = ["potchain", "task", "list"]
runpy.run_module("chain", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["chain.cli", "trio", "runtime.potchain"])
def test_an_interrupt_while_the_program_is_being_loaded_ends_it_without_a_word(module: str) -> None:
    words = [sys.executable, "-c", INTERRUPTED.format(module=module)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_between_a_command_and_its_words_ends_it_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "command_line", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["task", "list"])
    assert (ended.value.code, capsys.readouterr()) == (130, ("", ""))


def test_an_interrupt_while_several_things_are_under_way_ends_a_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def several() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted)

    monkeypatch.setattr(cli, "command_line", lambda: lambda *_, **__: trio.run(several))
    with pytest.raises(SystemExit) as ended:
        main(["task", "list"])
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
