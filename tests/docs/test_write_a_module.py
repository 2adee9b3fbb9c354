"""The tutorial, followed to the letter: each file is written, each command run, each output compared.

What is not written out (how a block is to be used) stands in comments that readers of the page do not see. In outputs
`…` stands for what differs from run to run: within a line for some of it, alone for any number of lines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clients import kit
from tests.docs.pages import commands
from tests.ports import free_port

pytestmark = pytest.mark.slow

PAGE = kit.ROOT / "docs" / "write-a-module.md"
SECONDS_MAX = 300
JAVASCRIPT = "## Call it from JavaScript"
BLOCK = re.compile(r"(?:^<!-- (?P<how>.*) -->\n)?^```(?P<kind>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)


@dataclass
class Reader:
    """Does what the page says, in a folder of its own."""

    folder: Path
    rpc_port: int = field(default_factory=free_port)
    chain: subprocess.Popen[str] | None = None
    rest: threading.Thread | None = None
    done: int = 0
    typed: list[str] = field(default_factory=list)

    def read_to(self, heading: str | None) -> None:
        """Go on to the heading, or to the end."""
        page = PAGE.read_text()
        end = len(page) if heading is None else page.index(f"{heading}\n")
        for block in BLOCK.finditer(page):
            if self.done <= block.start() < end:
                self.follow(block["how"] or "", block["kind"], block["text"])
        self.done = end

    def follow(self, how: str, kind: str, text: str) -> None:
        """Do what one block says. There is no block that says nothing to do."""
        name, _, place = how.partition(", ")
        if kind == "console":
            assert how in ("", "fails")
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
                self.type(command, expected, fails=how == "fails")
        elif how.startswith("file: "):
            (self.folder / how.removeprefix("file: ")).write_text(text.replace(":9944", f":{self.rpc_port}"))
        elif place:
            path = self.folder / name
            path.write_text(edited(path.read_text(), place, text))
        else:
            first, _, excerpt = text.partition("\n")
            assert first.startswith("# from "), f"nothing says what to do with {text!r}"
            assert excerpt in (self.folder / first.removeprefix("# from ")).read_text()

    def type(self, command: str, expected: str, *, fails: bool) -> None:
        """Run a command, as one would in a terminal."""
        self.typed.append(command)
        if command.startswith("mkdir "):
            self.folder = self.folder / command.split()[-1]
            self.folder.mkdir()
        elif command.startswith("npm install "):
            kit.install()
            (self.folder / "node_modules").symlink_to(kit.HERE / "node_modules")
        elif command.startswith("potchain --genesis "):
            self.start(command, expected)
        else:
            if command.startswith("potchain tx "):
                command += f" --node ws://127.0.0.1:{self.rpc_port}"
            done = subprocess.run(
                command,
                shell=True,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
            assert done.returncode == (1 if fails else 0), done.stdout
            assert re.fullmatch(pattern(expected), done.stdout), f"{command}\n{done.stdout}\nexpected:\n{expected}"

    def start(self, command: str, expected: str) -> None:
        """Start the chain, and wait until its output is what the page shows."""
        ports = f"--rpc-port={self.rpc_port} --port={free_port()} --no-prometheus --supervised"
        self.chain = subprocess.Popen(
            [*command.split(), *ports.split(), f"--base-path={self.folder / 'data'}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.chain.stdout is not None
        patience = threading.Timer(SECONDS_MAX, self.chain.kill)
        patience.start()
        shown = ""
        for line in self.chain.stdout:
            shown += line
            if re.fullmatch(pattern(expected), shown):
                break
        patience.cancel()
        assert re.fullmatch(pattern(expected), shown), shown
        self.rest = threading.Thread(target=self.chain.stdout.read)  # a full pipe would stop it
        self.rest.start()

    def stop(self) -> None:
        """Stop the chain, if it was started."""
        if self.chain is not None:
            assert self.chain.stdin is not None
            assert self.chain.stdout is not None
            self.chain.stdin.close()
            self.chain.wait(SECONDS_MAX)
            if self.rest is not None:
                self.rest.join()
            self.chain.stdout.close()

    @property
    def environment(self) -> dict[str, str]:
        """A terminal in an environment that has potchain and pytest."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def edited(source: str, place: str, text: str) -> str:
    """A file with the text where the page says."""
    where, _, wanted = place.partition(": ")
    if where == "at the end":
        return source + text
    lines = source.splitlines(keepends=True)
    (index,) = [number for number, line in enumerate(lines) if line.strip() == wanted]
    lines.insert(index + {"after": 1, "before": 0}[where], text)
    return "".join(lines)


def pattern(expected: str) -> str:
    """A regular expression for an output."""
    return "".join(
        "(?:.*\n)*" if line == "…\n" else re.sub(r"(\\ )+", " +", re.escape(line).replace("…", ".*"))
        for line in expected.splitlines(keepends=True)
    )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("tutorial"))
    yield reader
    reader.stop()


def test_from_nothing_to_a_running_chain_that_python_calls(reader: Reader) -> None:
    reader.read_to(JAVASCRIPT)
    assert reader.chain is not None
    assert reader.chain.poll() is None


def test_what_the_page_makes_of_the_module_is_typed_and_deterministic(reader: Reader) -> None:
    reader.read_to(JAVASCRIPT)
    own = ["guest_book.py", "test_guest_book.py", "my_chain.py"]
    # mypy follows no import hook, by which this checkout may be installed.
    environment = {**reader.environment, "PYTHONPATH": str(PAGE.parent.parent)}
    for command in (["mypy", "--strict", *own], ["potchain", "module", "check", "my_chain:RUNTIME"]):
        done = subprocess.run(command, cwd=reader.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_javascript_calls_it_too(reader: Reader) -> None:
    reader.read_to(JAVASCRIPT)
    reader.read_to(None)
    assert reader.typed == commands("docs/write-a-module.md")
