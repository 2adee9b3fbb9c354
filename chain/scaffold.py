"""Writes a new module, its test and, where there is none yet, a chain to run it: text in, text out.

What is written passes its own tests, the type checker and the determinism guard as it is.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import keyword
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from chain.development import one_machine_chain
from genesis.runtimes import REQUIRED
from runtime.storage import pascal_case, snake_case

NAME_LETTERS_MAX: Final = 32  # the lines of the templates stay within 120 columns
_SNAKE: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*")
_PASCAL: Final = re.compile(r"([A-Z][a-z0-9]*)+")


class CannotWrite(Exception):
    """The files cannot be written; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name as files and attributes have it, and as classes and clients do."""

    snake: str
    pascal: str

    @classmethod
    def of(cls, text: str) -> Name:
        """From `guest_book` or `GuestBook`; CannotWrite for what is neither."""
        if not (_SNAKE.fullmatch(text) or _PASCAL.fullmatch(text)):
            raise CannotWrite(f"expected a name such as guest_book or GuestBook, got {text!r}")
        if len(text) > NAME_LETTERS_MAX:
            raise CannotWrite(f"expected a name of at most {NAME_LETTERS_MAX} letters, got {len(text)}: {text}")
        snake = snake_case(text)
        if keyword.iskeyword(snake) or keyword.issoftkeyword(snake):
            raise CannotWrite(f"{snake} is a word of Python's; choose another name")
        return cls(snake, pascal_case(snake))


@dataclass(frozen=True, slots=True)
class Plan:
    """The files to write, in the order in which a reader wants them, with what each is."""

    new: dict[Path, tuple[str, str]]  # text and description
    chain: Path
    extended: str | None  # the text of a chain file that was there before, with the new module; None if it has no place


def plan(folder: Path, module: Name, chain: Name) -> Plan:
    """What to write into `folder`. CannotWrite where a file is there already, or a name is taken."""
    for name in (module, chain):
        _require_free(name, folder)
    if module == chain:
        raise CannotWrite(f"the module and the chain cannot both be called {module.snake}; give another --chain")
    chain_file, genesis = folder / f"{chain.snake}.py", folder / "genesis.json"
    extended = None
    new = {
        folder / f"{module.snake}.py": (_filled("module", module, chain), "the module"),
        folder / f"test_{module.snake}.py": (_filled("test", module, chain), "its tests and benchmarks"),
    }
    if chain_file.exists():
        extended = with_module(chain_file.read_text(), module)
    else:
        new[chain_file] = (_filled("chain", module, chain), "the chain's runtime")
        spec = one_machine_chain(chain.pascal, chain.snake, f"{chain.snake}:RUNTIME")
        new[genesis] = (json.dumps(spec, indent=2) + "\n", "the chain's genesis file, with one validator")
    for path in new:
        if path.exists():
            remedy = "give the name of its chain with --chain" if path == genesis else "choose another name"
            raise CannotWrite(f"{path} exists already and is left as it is; {remedy}")
    return Plan(new, chain_file, extended)


def with_module(source: str, module: Name) -> str | None:
    """A chain file with one more module, under the next index; None where it is not written as ours are."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    views = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_view(node)]
    tables = [
        word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords if _lists(word)
    ]
    if not imports or len(views) != 1 or len(tables) != 1:
        return None
    (view,), (table,) = views, tables
    assert isinstance(table, ast.Dict)
    indexes = [key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, int)]
    if not indexes or len(indexes) != len(table.keys) or table.end_lineno == table.values[-1].end_lineno:
        return None
    lines = source.splitlines()
    last = lines[(table.values[-1].end_lineno or 1) - 1]
    indent = last[: len(last) - len(last.lstrip())]
    for line, text in sorted(
        [
            (imports[-1].end_lineno or 0, f"from {module.snake} import {module.pascal}"),
            (view.body[-1].end_lineno or 0, f"    {module.snake}: {module.pascal}"),
            (table.values[-1].end_lineno or 0, f"{indent}{max(indexes) + 1}: {module.pascal},"),
        ],
        reverse=True,
    ):
        lines.insert(line, text)
    return "\n".join(lines) + "\n"


def _is_view(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "View" for base in node.bases)


def _lists(word: ast.keyword) -> bool:
    return word.arg == "modules" and isinstance(word.value, ast.Dict) and bool(word.value.keys)


def _require_free(name: Name, folder: Path) -> None:
    """A file beside the genesis file hides nothing: Python finds whatever else has its name before it."""
    if name.pascal in (cls.__name__ for cls in REQUIRED):
        raise CannotWrite(f"every chain has a module {name.pascal} already; choose another name")
    if (folder / f"{name.snake}.py").exists():
        return
    if name.snake in sys.stdlib_module_names or importlib.util.find_spec(name.snake) is not None:
        raise CannotWrite(f"Python finds another module under the name {name.snake}; choose another name")


def _filled(template: str, module: Name, chain: Name) -> str:
    imports = sorted(
        [f"from {chain.snake} import RUNTIME, {chain.pascal}", f"from {module.snake} import {module.pascal}"]
    )
    return Template((files("chain") / "templates" / f"{template}.py.txt").read_text()).substitute(
        name=module.snake, Name=module.pascal, chain=chain.snake, Chain=chain.pascal, imports="\n".join(imports)
    )
