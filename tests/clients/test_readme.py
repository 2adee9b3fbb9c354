"""The examples in the README, run as they are written there; only the port is that of the tests' node."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import httpx
import pytest

from tests.clients.kit import HERE, ROOT, SCRIPT_SECONDS_MAX, RunningNode

pytestmark = pytest.mark.slow


def example(opening: str, node: RunningNode) -> str:
    """The block whose first lines are `opening`, for the tests' node."""
    blocks = re.findall(r"^```.*?^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(opening)]
    assert "127.0.0.1:9944" in block
    code: str = block.partition("\n")[2].removesuffix("```").replace(":9944", f":{node.rpc_port}")
    return code


def run(*command: str) -> str:
    """What a program prints; it must end well and complain of nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_SECONDS_MAX, cwd=HERE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_python_example_sends_a_transfer(node: RunningNode) -> None:
    printed = run(sys.executable, "-c", example("```python\n", node))
    assert re.fullmatch(r"0x[0-9a-f]{64} True\n", printed)


@pytest.mark.usefixtures("npm")
def test_the_javascript_example_shows_a_task_and_sends_a_transfer(node: RunningNode) -> None:
    printed = run("node", "--input-type=module", "--eval", example("```js\n", node))
    assert "name: 'digits'" in printed
    assert re.search(r"^0x[0-9a-f]{64} sent$", printed, re.MULTILINE)


def test_the_http_example_shows_a_task(node: RunningNode) -> None:
    curl, header, kind, data, body, url = shlex.split(example("```\ncurl", node))
    assert (curl, header, data) == ("curl", "-H", "-d")
    name, _, value = kind.partition(": ")
    answer = httpx.post(url, headers={name: value}, content=body)
    assert json.loads(answer.text)["result"]["name"] == "digits"
