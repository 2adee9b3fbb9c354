"""The determinism guard: what two validators could execute differently is named, with its line and what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from genesis.guard.examine import examine
from genesis.guard.files import check_file
from genesis.guard.tables import ALLOWED
from genesis.runtimes import import_runtime, load_runtime
from runtime.types import GenesisError

THIRD_PARTY = Path(__file__).resolve().parent / "third_party"


def faults(source: str, *, framework: bool = False) -> list[tuple[int, str]]:
    """The lines and messages of what is wrong with a module of the package `mine`."""
    code = textwrap.dedent(source).encode()
    examined = examine(code, "mine", lambda name: name.partition(".")[0] == "mine", framework=framework)
    return [(fault.line, fault.message) for fault in examined.faults]


REFUSED = [
    # floats
    ("x = 1.5", "1.5: machines and versions round differently: use integers"),
    ("x = 2j", "2j: machines"),
    ("x = y / 2", "/ makes a float: use //"),
    ("def f(x):\n    x /= 2", "/ makes a float"),
    ("def f(x: float): ...", "float: machines"),
    ("x = float", "float: machines"),
    ("x = 10 ** -3", "** makes a float of a negative exponent"),
    ("x = 10 ** y", "** makes a float of a negative exponent"),
    ("x = pow(2, -1)", "pow() makes a float"),
    ("match x:\n    case 0.5: ...", "0.5: machines"),
    ("f = lambda share=0.1: share", "0.1: machines"),
    ("from math import sqrt", "math.sqrt: machines"),
    ("from decimal import Decimal", "import decimal: machines"),
    # sets
    ("for x in {1, 2}: ...", "{1, 2} is a set, whose order differs"),
    ("x = [y for y in {1, 2}]", "{1, 2} is a set"),
    ("x = {y: 1 for y in {1, 2}}", "{1, 2} is a set"),
    ("x = list({1, 2})", "{1, 2} is a set"),
    ("x = (*{1, 2}, 3)", "{1, 2} is a set"),
    ("a, b = {1, 2}", "{1, 2} is a set"),
    ("x = f'{ {1, 2} }'", "is a set"),
    ("def f(xs):\n    seen = set(xs)\n    for x in seen: ...", "seen is a set"),
    ("def f(xs):\n    b = a = set(xs)\n    return b", "b is a set"),
    ("def f(xs: set[int]):\n    return list(xs)", "xs is a set"),
    ("def f(xs):\n    return {x for x in xs}", "is a set"),
    ("def f(xs):\n    seen = set(xs)\n    return seen.pop()", "seen is a set"),
    ("def f(xs):\n    yield from set(xs)", "set(xs) is a set"),
    ("def f(a, b):\n    for k in a.keys() - b.keys(): ...", "a.keys() - b.keys() is a set"),
    ("def f(a, b):\n    for x in set(a) | b: ...", "set(a) | b is a set"),
    ("def f(a, b):\n    for x in set(a).union(b): ...", "set(a).union(b) is a set"),
    ("def f(a):\n    for x in a or set(): ...", "a or set() is a set"),
    ("def f(a):\n    return sorted(set(a), key=len)", "set(a) is a set"),
    ("def f(a):\n    return max(set(a), key=len)", "set(a) is a set"),
    ("def f(a):\n    return max(*set(a))", "set(a) is a set"),
    ("def f(a):\n    return sum([x * y for x in set(a)], start=[], key=1)", "set(a) is a set"),
    ("def f(a):\n    print_(set(a))", "set(a) is a set"),
    ("def f(self, a):\n    self.a = set(a)", "set(a) is a set"),
    ("class C:\n    kinds = frozenset((1, 2))", "frozenset((1, 2)) is a set"),
    ("from collections import defaultdict\nx = defaultdict(set)", "set, handed on, makes sets"),
    # clocks, chance, the world outside
    ("import time", "import time: machines' clocks differ: ask the block's, self.timestamp.now.get()"),
    ("from datetime import datetime", "import datetime: machines' clocks differ"),
    ("import random", "import random: every machine would draw another: draw from self.validators.randomness()"),
    ("from secrets import token_bytes", "import secrets: every machine would draw another"),
    ("import os", "import os: machines differ in what is around them"),
    ("import os.path as p", "import os.path: machines differ"),
    ("from pathlib import Path", "import pathlib: machines differ"),
    ("x = open('f')", "open(): machines differ"),
    ("print(1)", "print(): a module speaks in events"),
    ("import logging", "import logging: a module speaks in events"),
    ("import socket", "import socket: a block waits for nobody"),
    ("from urllib.request import urlopen", "import urllib.request: a block waits for nobody"),
    ("import threading", "import threading: the order of what runs at once differs"),
    ("async def f(): ...", "async: the order of what runs at once differs"),
    ("from trio import sleep", "import trio: the order"),
    ("import numpy as np", "import numpy: machines and versions round differently"),
    ("import requests_toolbelt", "import requests_toolbelt: what is valid must not depend on what is installed"),
    ("from json import loads", "import json: its results differ"),
    ("from re import match", "import re: what letters are differs"),
    ("from hashlib import new", "hashlib.new: take one of the hashes that every machine has"),
    ("from functools import cache", "functools.cache: a cache outlives the block"),
    ("from itertools import count", "itertools.count: count, cycle and tee keep a position"),
    ("import dataclasses", "import dataclasses: name what is needed: from dataclasses import …"),
    ("from typing import sys", "typing.sys: of typing a module may use TYPE_CHECKING, Annotated, Any, Callable"),
    (
        "from contextlib import suppress",
        "import contextlib: of the standard library a module may use parts of __future",
    ),
    ("from mine.parts import *", "from mine.parts import *: name what is needed"),
    ("def f():\n    import time", "import time: machines' clocks differ"),
    ("try:\n    import orjson\nexcept ImportError: ...", "import orjson: what is valid must not depend"),
    # what names other things
    ("x = hash(b'')", "hash() differs between processes: use chain.primitives.hashing.blake2_256"),
    ("x = sorted(y, key=hash)", "hash() differs between processes"),
    ("x = id(y)", "id() is an address in memory"),
    ("def f(now=eval('1')): ...", "eval(): what validators execute must be in the source"),
    ("x = __import__('time')", "__import__(): what validators execute"),
    ("from importlib import import_module", "import importlib: what validators execute"),
    ("x = getattr(y, 'z')", "getattr(): what it reaches cannot be seen"),
    ("x = vars(y)", "vars(): what it reaches"),
    ("x = globals()['y']", "globals(): what it reaches"),
    ("x = __builtins__", "__builtins__: what it reaches"),
    ("x = y.__mro__", ".__mro__: what it reaches"),
    ("x = (1).__truediv__(2)", ".__truediv__: what it reaches"),
    ("class C:\n    def __del__(self): ...", "__del__ runs when a machine pleases"),
    # this project's own, but for what is not meant for modules
    ("from runtime.testing import TestChain", "runtime.testing: it is for tests"),
    ("from chain.primitives.keys import new_phrase", "chain.primitives.keys.new_phrase: it is random"),
    (
        "from chain.primitives import keys\ndef f():\n    return keys.new_phrase()",
        "chain.primitives.keys.new_phrase: it",
    ),
    ("def f():\n    from chain.primitives import keys as k\n    return k.Keypair", "chain.primitives.keys.Keypair: a"),
    ("from runtime.framework import inspect", "runtime.framework.inspect: what it reaches"),
    ("from runtime import framework\nx = framework.inspect", "runtime.framework.inspect: what it reaches"),
    ("import runtime.framework as f\nx = f.typing.sys", "runtime.framework.typing.sys: machines differ"),
    ("from chain.ledger import Ledger", "import chain.ledger: of this project, a module sees chain.primitives and"),
    ("from trainer import codec", "import trainer: of this project"),
    # state outside of storage
    ("N = 0\ndef f():\n    global N\n    N += 1", "global N: it outlives the block"),
    ("SEEN = {}\ndef f(x):\n    SEEN[x] = 1", "SEEN outlives the block"),
    ("SEEN = []\ndef f(x):\n    SEEN.append(x)", "SEEN outlives the block"),
    ("SEEN = {}\ndef f(x):\n    del SEEN[x]", "SEEN outlives the block"),
    ("IDS = iter(range(9))\ndef f():\n    return next(IDS)", "IDS outlives the block"),
    ("class C: ...\ndef f():\n    C.x = 1", "C outlives the block"),
    ("class C:\n    def f(self):\n        type(self).x = 1", "type(self) outlives the block"),
    ("class C:\n    seen = []", "all states share a class's attributes"),
    ("from collections import deque\nclass C:\n    seen = deque()", "all states share a class's attributes"),
    ("def f(x, seen=[]): ...", "a default that can be changed lives on between calls"),
    ("f = lambda x, seen={}: x", "a default that can be changed"),
    ("class M(Module):\n    def f(self):\n        self.n = 1", "self.n ends with the block"),
    ("class M(Balances):\n    x = StorageValue[u32](default=0)\n    def f(self):\n        self.n += 1", "self.n ends"),
    # faults of one machine
    ("try: ...\nexcept: ...", "except: also catches what goes wrong on one machine alone"),
    ("try: ...\nexcept Exception: ...", "except Exception also catches"),
    ("def f():\n    try: ...\n    finally:\n        return 1", "return in finally hides whatever went wrong"),
    ("for x in y:\n    try: ...\n    finally:\n        if x: break", "break in finally hides whatever went wrong"),
    ("class A:\n    def __exit__(self, *_): return True", "__exit__ may hide whatever went wrong"),
    ("try: ...\nexcept (KeyError, RecursionError): ...", "except RecursionError also catches"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED, ids=[source for source, _ in REFUSED])
def test_what_may_differ_between_validators_is_refused(source: str, message: str) -> None:
    found = faults(source)
    assert len(found) == 1, found
    assert found[0][1].startswith(message) or message in found[0][1], found


@pytest.mark.parametrize(
    "source",
    [
        "x = 7 // 2 + 10 ** 12 + pow(3, -1, 7) + (1 << n)",
        "def f(xs):\n    seen = set(xs)\n    return 3 in seen and len(seen) == 2 and seen <= {1, 2}",
        "def f(xs):\n    seen = set()\n    for x in xs:\n        if x in seen: return x\n        seen.add(x)",
        "def f(a, b):\n    return sorted(set(a) - set(b)), sorted(set(a), reverse=True), sum(set(a)), any(set(b))",
        "def f(a):\n    return sorted(x.y for x in set(a) if x.z), all([x for x in {*a}])",
        "def f(a):\n    less = {x for x in set(a) if x}\n    return 1 in less",
        "KINDS: Final = frozenset((1, 2))\ndef f(x):\n    return x in KINDS",
        "def f(a: dict, b):\n    return [*a, *a.items(), *dict.fromkeys(b)]",
        "def f(x):\n    return isinstance(x, set | frozenset) or isinstance(x, (list, set))",
        "def f(hash, id):\n    return hash + id",  # arguments of calls have the names that clients should see
        "class Paid:\n    id: u32\n    hash: H256",
        "from math import isqrt\nfrom collections import Counter\nfrom dataclasses import replace\nx = isqrt(9)",
        "from hashlib import sha256",
        "from chain.primitives import bls, keys\ndef f(s, p, m, g):\n    return keys.verify(s, p, m, g)",
        "import chain.primitives.hashing\nx = chain.primitives.hashing.blake2_256(b'')",
        "from runtime.modules.system import System\ndef f(self):\n    return System.code, System.signal",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from time import time",
        "from mine.parts import CLOCK\nfrom . import helper",
        "RATES: Final = {1: 2}\ndef f(x):\n    return RATES[x]",
        "def f(x):\n    found = {}\n    found[x] = 1\n    found.pop(x)\n    return found",
        "class Draw:\n    def __init__(self):\n        self.n = 1\n    def next(self):\n        self.n += 1",
        "class M(Module):\n    def f(self, x):\n        self.tasks[x] = 1\n        self.next_id.put(2)",
        "try: ...\nexcept (KeyError, ValueError) as error:\n    raise Refused(str(error)) from error",
        "def f():\n    try: ...\n    finally:\n        for x in y:\n            if x: break",
        "class C:\n    def __init__(self):\n        super().__init__()\n        self.name = type(self).__name__",
        "x = StorageValue[list[int]](default=[])",
    ],
)
def test_what_is_the_same_everywhere_is_let_in(source: str) -> None:
    assert faults(source) == []


def test_every_name_in_the_table_exists() -> None:
    for module, names in ALLOWED.items():
        for name in names:
            exec(f"from {module} import {name}", {})


def test_faults_come_by_line_and_once_each() -> None:
    source = """
        import time

        def share(x):
            return x / 2 * 0.5
    """
    assert [line for line, _ in faults(source)] == [2, 5, 5]


def test_a_framework_catches_everything_where_it_raises_in_the_end() -> None:
    passed_on = "try: ...\nexcept Exception as error:\n    undo()\n    raise Worse from error"
    assert faults(passed_on, framework=True) == []
    assert [line for line, _ in faults(passed_on)] == [2]
    assert [line for line, _ in faults("try: ...\nexcept Exception: ...", framework=True)] == [2]


def test_a_framework_looks_at_classes_and_is_held_to_the_rest() -> None:
    source = "import inspect\nimport typing\nx = getattr(y, 'z').__dict__\nz = 0.5"
    assert [line for line, _ in faults(source, framework=True)] == [4]
    assert [line for line, _ in faults(source)] == [1, 2, 3, 3, 4]


# --- which files are read ---------------------------------------------------------------------------------------------


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def findings(path: Path, folder: Path) -> list[str]:
    return [str(finding).removeprefix(f"{folder}/").partition(": ")[0] for finding in check_file(path).findings]


def test_a_clock_in_a_helper_of_a_helper_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop/__init__.py": "import random",
            "shop/prices.py": "from shop.parts.rates import rate\nfrom . import names",
            "shop/names.py": "",
            "shop/unused.py": "import time",
            "shop/parts/rates.py": "from ..clock import now\nimport beside",
            "shop/clock.py": "from time import time as now",
            "beside.py": "x = 0.5",
        },
    )
    report = check_file(tmp_path / "shop" / "prices.py")
    assert {str(path.relative_to(tmp_path)) for path in report.files} == {
        *("shop/__init__.py", "shop/prices.py", "shop/names.py", "shop/parts/rates.py", "shop/clock.py", "beside.py")
    }
    assert sorted(findings(tmp_path / "shop" / "prices.py", tmp_path)) == [
        *("beside.py:1", "shop/__init__.py:1", "shop/clock.py:1")
    ]


def test_what_is_compiled_or_broken_is_named_and_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"shop.py": "from fast.inner import x\nimport broken", "broken.py": "def", "fast/__init__.py": ""})
    (tmp_path / "fast" / "inner.so").write_bytes(b"\x7fELF")
    found = [finding.fault.message for finding in check_file(tmp_path / "shop.py").findings]
    assert found[0].startswith("import fast.inner: it is compiled")
    assert found[1].startswith("not Python: invalid syntax")


@pytest.mark.parametrize("name", ["queue.py", "runtime.py", "trainer/module.py", "chain.py"])
def test_a_file_that_is_called_as_something_else_has_no_other_rights(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "import time\nx = getattr(y, 'z')"})
    assert [finding.fault.line for finding in check_file(tmp_path / name).findings] == [1, 2]


def test_null_bytes_and_bottomless_nesting_are_no_python(tmp_path: Path) -> None:
    for source in (b"x = 1\0", b"x = " + b"(" * 5000 + b")" * 5000, b"x = 1" + b" + 1" * 5000):
        (tmp_path / "bad.py").write_bytes(source)
        (finding,) = check_file(tmp_path / "bad.py").findings
        assert finding.fault.message.startswith("not Python: ")


def chain_with(tmp_path: Path, name: str, module: str) -> str:
    """A chain beside its genesis file whose one module of its own has this source; its reference."""
    text = (THIRD_PARTY / "names_chain" / "chain.py").read_text()
    text = text.replace("names_chain.names import Names", f"{name}_module import Names")
    write(tmp_path, {f"{name}.py": text, f"{name}_module.py": module})
    return f"{name}:RUNTIME"


def test_a_chain_whose_module_asks_the_clock_is_not_run(tmp_path: Path) -> None:
    names = (THIRD_PARTY / "names_chain" / "names.py").read_text()
    clocked = names.replace("self.system.height + self.term.get()", "int(time.time() / 6) + self.term.get()")
    reference = chain_with(
        tmp_path, "clocked", clocked.replace("from collections.abc", "import time\nfrom collections.abc")
    )
    import_runtime(reference, tmp_path)
    with pytest.raises(GenesisError) as caught:
        load_runtime(reference, tmp_path)
    first = f"clocked:RUNTIME may give each validator another result: {tmp_path}/clocked_module.py:8: import time: "
    assert str(caught.value).startswith(first)
    assert str(caught.value).endswith("(the first of 2; see: potchain module check clocked:RUNTIME)")


def test_a_chain_that_keeps_the_rules_is_run(tmp_path: Path) -> None:
    names = (THIRD_PARTY / "names_chain" / "names.py").read_text()
    assert load_runtime(chain_with(tmp_path, "kept", names), tmp_path).version.spec_name == "names"


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("torn", "def", "torn cannot be imported: SyntaxError: invalid syntax (torn.py, line 1)"),
        (
            "absent",
            "import nowhere_to_be_found",
            "absent cannot be imported: ModuleNotFoundError: No module named 'nowhere",
        ),
        ("wrong", "x = 1\ny = x // 0", "wrong.py, line 2)"),
    ],
)
def test_a_runtime_that_cannot_be_imported_is_named_with_its_line(
    tmp_path: Path, name: str, source: str, message: str
) -> None:
    write(tmp_path, {f"{name}.py": source})
    with pytest.raises(GenesisError) as caught:
        load_runtime(f"{name}:RUNTIME", tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
