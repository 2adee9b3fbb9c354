"""Which name means what at a place in a source: Python's own rules of scope, for a walk down its tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(slots=True)
class Scope:
    """A module, class, function or comprehension: the names that it binds, what is imported, and what holds sets."""

    node: ast.AST
    names: set[str]
    sets: set[str] = field(default_factory=set)
    imported: dict[str, str] = field(default_factory=dict)  # what a name stands for


class Scopes:
    """The scopes around the place that is being looked at, outermost first."""

    def __init__(self, tree: ast.Module) -> None:
        self.parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
        self._tree = tree
        self._stack: list[Scope] = []

    @contextmanager
    def inside(self, node: ast.AST, body: Sequence[ast.AST], names: Sequence[str] = ()) -> Iterator[Scope]:
        """Enter the scope of `node`, which binds `names` and what its body binds."""
        scope = Scope(node, {*names, *(name for inner in body for name in bound(inner))})
        self._stack.append(scope)
        yield scope
        self._stack.pop()

    @property
    def innermost(self) -> Scope:
        """The scope of the place itself."""
        return self._stack[-1]

    def of(self, name: str) -> Scope | None:
        """The scope whose `name` is meant here; None for a builtin."""
        for depth, scope in enumerate(reversed(self._stack)):
            if name in scope.names and (depth == 0 or not isinstance(scope.node, ast.ClassDef)):
                return scope
        return None

    def is_builtin(self, node: ast.AST, *names: str) -> bool:
        """Whether it is one of these builtins."""
        return isinstance(node, ast.Name) and node.id in names and self.of(node.id) is None

    def is_global(self, node: ast.AST) -> bool:
        """Whether it is a name that the module itself binds."""
        return isinstance(node, ast.Name) and self.of(node.id) is self._stack[0]

    def is_variable(self, node: ast.AST) -> bool:
        """Whether it is a name that the module itself assigns: not an import, a class or a function."""
        return self.is_global(node) and any(
            isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id == getattr(node, "id", None)
            for inner in walk_scope(self._tree)
        )

    def in_function(self) -> bool:
        """Whether this is run after the module was imported."""
        return any(isinstance(scope.node, FunctionNode) for scope in self._stack)

    def innermost_class(self) -> ast.ClassDef | None:
        """The class that this is part of."""
        nodes = (scope.node for scope in reversed(self._stack))
        return next((node for node in nodes if isinstance(node, ast.ClassDef)), None)

    def reached(self, node: ast.AST) -> str | None:
        """The imported thing that a dotted expression reaches, by its full name."""
        first, _, rest = (dotted(node) or "").partition(".")
        scope = self.of(first)
        if scope is None or first not in scope.imported:
            return None
        return f"{scope.imported[first]}.{rest}" if rest else scope.imported[first]


def walk_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without the insides of the scopes within it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode | ast.ClassDef):
            yield child
        else:
            yield from walk_scope(child)


def bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement, or a target, binds in the scope that it is in."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            return
        case ast.Lambda():
            return
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            for alias in names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(rest)):
            yield rest
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Comprehension):  # its targets are its own; what := binds is not
            inner = (each.target for each in ast.walk(child) if isinstance(each, ast.NamedExpr))
            yield from (target.id for target in inner if isinstance(target, ast.Name))
        else:
            yield from bound(child)


def dotted(node: ast.AST) -> str | None:
    """`a.b.c` as text, or None."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=base, attr=attribute):
            before = dotted(base)
            return None if before is None else f"{before}.{attribute}"
    return None
