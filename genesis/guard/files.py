"""Finds the sources behind a runtime, or behind one file, and examines each: the guard's own reading of files.

A chain's own files are those of the packages that its modules come from, and what lies beside them; every file that
one of them imports is examined too, with the packages around it. Nothing is run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

from genesis.guard.examine import Fault, examine
from genesis.guard.tables import OURS
from runtime.composition import Runtime

FILES_MAX: Final = 1000  # ten times this project's own runtime: a larger one imports what it should not
_LIBRARIES: Final = ("site-packages", "dist-packages")
_HOME: Final = Path(__file__).resolve().parents[2]  # where this project's own packages lie


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault and the file that it is in."""

    path: Path
    fault: Fault

    def __str__(self) -> str:
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        return f"{path}:{self.fault.line}: {self.fault.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """The files that were examined, in the order in which they were reached, and what was found in them."""

    files: tuple[Path, ...]
    findings: tuple[Finding, ...]


def check_runtime(module: str, runtime: Runtime[Any]) -> Report:
    """Examine what a runtime is made of, beyond this project's own: `module` defines it and is imported already."""
    classes = (base for info in runtime.modules for base in info.cls.__mro__)
    names = dict.fromkeys((module, *(cls.__module__ for cls in classes)))
    reader = _Reader()
    for name in names:
        top = name.partition(".")[0]
        if top not in OURS and top not in sys.stdlib_module_names:
            reader.add_root(top, _root_of(name))
    return reader.read(name for name in names if reader.is_own(name))


def check_file(path: Path) -> Report:
    """Examine one file and what it imports of its own chain; OSError if it cannot be read.

    One of this project's own is examined alone, and with a framework's rights outside of `runtime/modules`.
    """
    path = path.resolve()
    parts = [] if path.name == "__init__.py" else [path.stem]
    root = path.parent
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    source = path.read_bytes()
    if parts[0] in OURS and root == _HOME:
        examined = examine(source, "", lambda _: False, framework=parts[:2] != ["runtime", "modules"])
        return Report((path,), tuple(Finding(path, fault) for fault in examined.faults))
    reader = _Reader()
    reader.add_root(parts[0], root)
    return reader.read([".".join(parts)])


def _root_of(name: str) -> Path:
    """The folder in which Python found the top of an imported module."""
    file = getattr(sys.modules[name], "__file__", None)
    if file is None:
        raise OSError(f"{name} comes from no file, so that nobody can read what it does")
    path = Path(file).resolve()
    return path.parents[name.count(".") + (path.name == "__init__.py")]


class _Reader:
    """Reads each source once."""

    def __init__(self) -> None:
        self._roots: dict[str, Path] = {}  # by the top of the names that are found there
        self._beside: list[Path] = []  # folders in which everything is the chain's own
        self._files: dict[Path, str] = {}  # with their modules' names
        self._queue: list[Path] = []
        self._findings: list[Finding] = []

    def add_root(self, top: str, root: Path) -> None:
        """The chain's own package or module `top` lies in the folder `root`."""
        self._roots[top] = root
        if root.name not in _LIBRARIES:
            self._beside.append(root)

    def is_own(self, name: str) -> bool:
        """Whether a module belongs to the chain."""
        return self._root(name) is not None

    def read(self, names: Iterable[str]) -> Report:
        """Examine these modules, and all of the chain's own that they lead to."""
        for name in names:
            self._take(name)
        while self._queue:
            self._examine(self._queue.pop(0))
            if len(self._files) > FILES_MAX:
                raise OSError(f"more than {FILES_MAX} files are imported: leave out what a block does not need")
        return Report(tuple(self._files), tuple(self._findings))

    def _root(self, name: str) -> Path | None:
        top = name.partition(".")[0]
        if top in self._roots:
            return self._roots[top]
        if top in OURS or top in sys.stdlib_module_names:
            return None
        found = (root for root in self._beside if (root / top).is_dir() or (root / f"{top}.py").exists())
        return next(found, None)

    def _take(self, name: str) -> bool:
        """Queue a module's file and those of the packages around it; False if that is no module with a source."""
        root = self._root(name)
        assert root is not None
        parts = name.split(".")
        is_module = False
        for depth in range(1, len(parts) + 1):
            at = root.joinpath(*parts[:depth])
            file = next((file for file in (at / "__init__.py", at.with_name(f"{at.name}.py")) if file.exists()), None)
            is_module = file is not None
            if file is not None and file not in self._files:
                self._files[file] = ".".join(parts[:depth])
                self._queue.append(file)
        return is_module

    def _examine(self, path: Path) -> None:
        name = self._files[path]
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        try:
            examined = examine(path.read_bytes(), package, self.is_own)
        except SyntaxError as error:
            self._findings.append(Finding(path, Fault(error.lineno or 1, f"not Python: {error.msg}")))
            return
        self._findings += [Finding(path, fault) for fault in examined.faults]
        for imported, line in examined.imports.items():
            if not self._take(imported) and self._is_compiled(imported):
                reason = "it is compiled, so that nobody can read what it does: write it in Python"
                self._findings.append(Finding(path, Fault(line, f"import {imported}: {reason}")))

    def _is_compiled(self, name: str) -> bool:
        root = self._root(name)
        assert root is not None
        at = root.joinpath(*name.split("."))
        return any(at.with_name(at.name + end).exists() for end in (*EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES))
