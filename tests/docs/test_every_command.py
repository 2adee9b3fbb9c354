"""Every command of README and docs is run by a test, and whatever else they name is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from chain.cli import command_line
from chain.rpc.methods import all_methods
from runtime.potchain import RUNTIME
from tests.docs.pages import NOT_RUN, ROOT, blocks, commands, pages

TESTS = ROOT / "tests"
# What stands before a program, and the programs that are this project's.
STARTERS = re.compile(r"(sudo |-u \w+ |taskset -c \d+ |\.venv/bin/python |python3? )*")
OURS = re.compile(r"(\.venv/bin/)?potchain |(scripts|docs/examples)/\w")
ALL_COMMANDS: Any = command_line()
METHODS = all_methods(RUNTIME).methods
FAMILIES = {name.partition("_")[0] for name in METHODS}


def test_every_section_with_commands_is_followed_by_a_test() -> None:
    told = {(page, block.heading) for page in pages() for block in blocks(page) if commands(page, block.heading)}
    assert len(told) > 25
    followed: set[tuple[str, str]] = set()
    for path in TESTS.rglob("test_*.py"):
        for page, *headings in filter(None, taken(ast.parse(path.read_text()))):
            followed |= {(page, heading) for heading in headings or {block.heading for block in blocks(page)}}
    assert sorted(told - followed) == [], "no test takes the commands below these headings"


def test_what_no_test_can_run_is_on_a_page() -> None:
    there = {command for page in pages() for block in blocks(page) for command in block.commands}
    assert set(NOT_RUN) <= there


@pytest.mark.parametrize("page", pages())
def test_what_a_page_says_of_commands_and_files_is_so(page: str) -> None:
    """Also what is in a sentence, and what no test runs: the command, its options, the file, the RPC method."""
    sentences = re.sub(r"^ *```.*?^ *```$|<!--.*?-->", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    said = [command for block in blocks(page) for command in block.commands]
    said += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", sentences)
    for command in said:
        for program, *words in programs(command):
            if program.rpartition("/")[2] in ("potchain", "testnet"):
                assert missing(words) == [], f"{page}: {command}"
            else:
                assert (ROOT / program).exists(), f"{page}: {command}"
    for method, family in re.findall(r"`((\w+?)_\w+)(?:\(.*?\))?`", sentences):
        assert method in METHODS or family not in FAMILIES, f"{page}: there is no method {method}"
    for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"`[^`]*`", "", sentences)):
        assert ":" in link or (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link} is not there"


def test_the_page_on_the_dashboard_has_every_page_of_it_and_no_other() -> None:
    text = (ROOT / "docs" / "dashboard.md").read_text()
    (rows,) = re.findall(r"^\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    named = ", ".join(row.split("|")[1].strip() for row in rows.splitlines()).split(", ")
    told = [re.sub("^an? ", "", name).lower() for name in named]
    # These three are told of in sentences.
    for sentence, name in {"The search box": "search", "*Send*": "send", "*New task*": "new task"}.items():
        assert sentence in text
        told.append(name)
    script = (ROOT / "chain" / "dashboard" / "static" / "app.js").read_text()
    routes = re.findall(r"^  \[/.*/, (\w+)Page, ", script, re.MULTILINE)
    assert sorted(told) == sorted(re.sub(r"([A-Z])", r" \1", name).lower() for name in routes)


def taken(module: ast.Module) -> Iterator[list[str]]:
    """The words of every `commands("…")` in a module's tests."""
    for test in module.body:
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
            for call in ast.walk(test):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "commands":
                    yield [str(word.value) for word in call.args if isinstance(word, ast.Constant)]


def programs(command: str) -> Iterator[list[str]]:
    """The words of each program of this project that a line runs, from the program's own on."""
    for part in re.split(r" (?:&&|\|) ", command):
        run = STARTERS.sub("", part)
        if OURS.match(run):
            yield shlex.split(run)


def missing(words: list[str]) -> list[str]:
    """Which of the words after `potchain` are no command or option of it."""
    command, found = ALL_COMMANDS, []
    options, rest = _options(command), iter(words)
    for word in rest:
        if word.startswith("-"):
            name, _, value = word.partition("=")
            if name not in options:
                found.append(word)
            elif options[name] and not value:
                next(rest, None)
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [*found, word] if word.isalpha() else found  # … stands for what a reader wants
            command = command.commands[word]
            options |= _options(command)
    any_option = command.context_settings.get("ignore_unknown_options")  # those of a call are as metadata says
    return [] if any_option else found


def _options(command: Any) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    own = {name: not each.is_flag for each in command.params if hasattr(each, "is_flag") for name in each.opts}
    return {"--help": False} | own | {name: False for each in command.params for name in each.secondary_opts}
