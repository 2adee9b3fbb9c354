"""The examples of the README and docs/libraries.md, run as they are there; only the port is that of the tests' node."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.clients.kit import HERE, ROOT, SCRIPT_SECONDS_MAX, RunningNode
from tests.docs.pages import blocks, commands

pytestmark = pytest.mark.slow


# The commands that end by themselves, and a word of what each prints.
COMMANDS = {
    "task list": "digits",
    "task fetch": "match the root on chain",
    "task new": "spirals is task ",
    "tx transfer": "final in block",
    "key new": "written to my.key",
}


def example_at(node: RunningNode, kind: str) -> str:
    """The page's one block of a kind, with the port of the tests' node."""
    (block,) = [block for block in blocks("docs/libraries.md") if block.kind == kind]
    code = "\n".join(block.lines)
    assert "127.0.0.1:9944" in code
    return code.replace(":9944", f":{node.rpc_port}")


def run(*command: str, folder: Path = HERE) -> str:
    """What a program prints; it must end well and complain of nothing."""
    # In a session of its own: there is no terminal that it could ask or tell anything.
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS_MAX,
        cwd=folder,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_commands_do_what_is_said_of_them(
    node: RunningNode, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    password = tmp_path_factory.mktemp("password") / "file"  # what people type
    password.touch(0o600)
    password.write_text("correct horse\n")
    lines = commands("README.md", "Use it")
    watched = []
    for program, *arguments in map(shlex.split, lines):
        assert program == ".venv/bin/potchain"
        arguments = [str(ROOT / word) if word.startswith("docs/") else word for word in arguments]
        command = [sys.executable, "-m", "chain", *arguments]
        command += ["--auditors", "1"] if arguments[:2] == ["task", "new"] else []  # the tests' chain has one validator
        command += ["--password-filename", str(password)] if arguments[0] == "key" else ["--node", node.url]
        if "watch" in arguments:  # which goes on until it is told to stop
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as watch:
                assert watch.stdout is not None
                watched.append(watch.stdout.readline())
                watch.terminate()
        else:
            word = COMMANDS[" ".join(arguments[:2])]
            assert word in run(*command, folder=tmp_path)
    assert ["0 of 200 rounds are final" in line for line in watched] == [True]
    assert len(lines) == len(COMMANDS) + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.safetensors", "my.key"]


def test_the_python_example_sends_a_transfer(node: RunningNode) -> None:
    printed = run(sys.executable, "-c", example_at(node, "python"))
    assert re.fullmatch(r"0x[0-9a-f]{64} True\n", printed)


@pytest.mark.usefixtures("npm")
def test_the_javascript_example_shows_a_task_and_sends_a_transfer(node: RunningNode) -> None:
    printed = run("node", "--input-type=module", "--eval", example_at(node, "js"))
    assert "name: 'digits'" in printed
    assert re.search(r"^0x[0-9a-f]{64} sent$", printed, re.MULTILINE)


def test_the_http_example_shows_a_task(node: RunningNode) -> None:
    (command,) = commands("docs/libraries.md", "Plain HTTP")
    curl, header, kind, data, body, url = shlex.split(command.replace(":9944", f":{node.rpc_port}"))
    assert (curl, header, data) == ("curl", "-H", "-d")
    name, _, value = kind.partition(": ")
    answer = httpx.post(url, headers={name: value}, content=body)
    assert json.loads(answer.text)["result"]["name"] == "digits"
