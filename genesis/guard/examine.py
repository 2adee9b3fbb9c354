"""Reads a runtime module's source and names what could differ between two validators.

It refuses floats, going through sets, clocks, chance, input and output, threads, reflection, broad `except`, state
outside of storage, and every import that its tables do not name. It reads and never runs. Rule: there is no comment
that silences it; whatever it refuses can be written otherwise.

It is for mistakes, not against malice: whoever runs a chain trusts its runtime. What it cannot see is whether an object
that another module hands over is a set, a global that is changed under another name, the address in the text of an
object that has no `__str__` of its own, what `str` methods find in Unicode's tables (they grow with Python), how long a
loop takes, and what the libraries below chain.primitives do.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from genesis.guard import sets
from genesis.guard.scopes import Comprehension, Scopes, bound, dotted
from genesis.guard.tables import (
    ALLOWED,
    BROAD,
    BUILTINS,
    DUNDERS,
    FRAMEWORK,
    INSTEAD,
    MUTABLE_MAKERS,
    MUTATORS,
    NOT_FOR_MODULES,
    OURS,
    PROJECT,
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A place in a source that validators may execute differently, and what to write instead."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What a source showed: its faults by line, and what it imports of its own chain, with the line.

    A name among the imports may be a module, or something in one: the source does not say.
    """

    faults: tuple[Fault, ...]
    imports: dict[str, int]


def examine(source: bytes, package: str, is_own: Callable[[str], bool], *, framework: bool = False) -> Examined:
    """Examine the source of a Python module in `package` ("" at the top); SyntaxError where it is none.

    `is_own` says of a module whether it belongs to the same chain: it may be imported, and is to be examined too. A
    `framework` builds modules from their classes: it may look at them, and import what that takes.
    """
    try:
        tree = ast.parse(source)
        guard = _Guard(Scopes(tree), package, is_own, framework)
        guard.enter(tree, tree.body)
    except ValueError as error:  # null bytes
        raise SyntaxError(str(error)) from None
    except (RecursionError, MemoryError):  # of this walk, or of Python's own parser
        raise SyntaxError("nested too deeply") from None
    return Examined(tuple(sorted(set(guard.faults))), guard.imports)


class _Guard(ast.NodeVisitor):
    """Walks one source."""

    def __init__(self, scopes: Scopes, package: str, is_own: Callable[[str], bool], framework: bool) -> None:
        self.faults: list[Fault] = []
        self.imports: dict[str, int] = {}
        self._scopes = scopes
        self._package = package
        self._is_own = is_own
        self._framework = framework
        self._annotations = 0  # how many annotations this is inside of

    def _fault(self, node: ast.AST, message: str) -> None:
        self.faults.append(Fault(getattr(node, "lineno", 1), message))

    # --- scopes ---

    def enter(self, node: ast.AST, body: Sequence[ast.AST], names: Sequence[str] = ()) -> None:
        """Visit the body of a scope that binds `names` beside what its body does."""
        with self._scopes.inside(node, body, names) as scope:
            sets.watch(scope, body, self._scopes)
            for inner in body:
                self.visit(inner)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node, [node.body])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__del__":
            self._fault(node, "__del__ runs when a machine pleases: do it where the call ends")
        if node.name == "__exit__":
            self._fault(node, "__exit__ may hide whatever went wrong, on one machine alone, too: use try and finally")
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._visit_annotation(node.returns)
        self._visit_function(node, node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._fault(node, f"async: {INSTEAD['asyncio']}")

    def _visit_function(self, node: ast.FunctionDef | ast.Lambda, body: Sequence[ast.AST]) -> None:
        arguments = node.args
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.visit(default)
                if _is_mutable(default):
                    self._fault(default, "a default that can be changed lives on between calls: use a tuple or None")
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        for argument in every:
            self._visit_annotation(argument.annotation)
        self.enter(node, body, [argument.arg for argument in every])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outside)
        for statement in node.body:
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            if value is not None and _is_mutable(value):
                self._fault(value, "all states share a class's attributes: keep constants in a tuple, state in storage")
        self.enter(node, node.body)

    def _visit_comprehension(self, node: Comprehension) -> None:
        self._check_set(node)
        first = node.generators[0]
        self.visit(first.iter)
        with self._scopes.inside(node, [], [name for each in node.generators for name in bound(each.target)]):
            for generator in node.generators:
                self.visit(generator.target)
                if generator is not first:
                    self.visit(generator.iter)
                for condition in generator.ifs:
                    self.visit(condition)
            for result in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self.visit(result)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    def _visit_annotation(self, node: ast.AST | None) -> None:
        if node is not None:
            self._annotations += 1
            self.visit(node)
            self._annotations -= 1

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    # --- imports ---

    def visit_If(self, node: ast.If) -> None:
        if self._scopes.reached(node.test) == "typing.TYPE_CHECKING":  # what only type checkers read is never run
            for statement in node.orelse:
                self.visit(statement)
        else:
            self._visit_maybe_set(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._scopes.innermost.imported[alias.asname or top] = alias.name if alias.asname else top
            if self._is_own(alias.name):
                self.imports.setdefault(alias.name, node.lineno)
            elif _is_under(alias.name, *PROJECT):
                self._check_reached(node, alias.name)
            elif alias.name in ALLOWED and not self._framework:
                self._fault(node, f"import {alias.name}: name what is needed: from {alias.name} import …")
            elif not (self._framework and alias.name in (*ALLOWED, *FRAMEWORK)):
                self._refuse_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._imported_from(node)
        for alias in node.names:
            name = f"{module}.{alias.name}"
            self._scopes.innermost.imported[alias.asname or alias.name] = name
            if alias.name == "*":
                self._fault(node, f"from {module} import *: name what is needed")
            elif self._is_own(module) or self._is_own(name):
                self.imports.setdefault(module, node.lineno)
                self.imports.setdefault(name, node.lineno)
            elif module in ALLOWED:
                if alias.name not in ALLOWED[module] and not self._framework:
                    known = f"of {module} a module may use {', '.join(ALLOWED[module])}"
                    self._fault(node, f"{name}: {INSTEAD.get(module, known)}")
            elif _is_under(name, *PROJECT):
                self._check_reached(node, name)
            elif not (self._framework and module in FRAMEWORK):
                self._refuse_import(node, module)

    def _imported_from(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self._package.split(".")
        base = ".".join(parents[: len(parents) - node.level + 1])
        return f"{base}.{node.module}" if node.module else base

    def _refuse_import(self, node: ast.AST, module: str) -> None:
        top = module.partition(".")[0]
        reason = INSTEAD.get(module) or INSTEAD.get(top)
        if top in OURS:
            reason = "of this project, a module sees chain.primitives and runtime alone"
        elif reason is None and top in sys.stdlib_module_names:
            reason = f"of the standard library a module may use parts of {', '.join(ALLOWED)}"
        elif reason is None:
            reason = "what is valid must not depend on what is installed: put what it does into the chain's own files"
        self._fault(node, f"import {module}: {reason}")

    def _check_reached(self, node: ast.AST, name: str) -> None:
        """What is reached through a module of this project must be meant for modules, and not one of its imports."""
        unfit = next((each for each in NOT_FOR_MODULES if _is_under(name, each)), None)
        if unfit is not None and not self._framework:
            self._fault(node, f"{unfit}: {NOT_FOR_MODULES[unfit]}")
        before, _, last = name.rpartition(".")
        is_in_class = any(part[:1].isupper() for part in before.split("."))
        if last in INSTEAD and not is_in_class:
            self._fault(node, f"{name}: {INSTEAD[last]}")

    # --- numbers ---

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, float | complex):
            self._fault(node, f"{node.value!r}: {INSTEAD['math']}")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._check_operator(node, node.right)
        self._visit_maybe_set(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._check_operator(node, node.value)
        self.generic_visit(node)

    def _check_operator(self, node: ast.BinOp | ast.AugAssign, right: ast.expr) -> None:
        if isinstance(node.op, ast.Div):
            self._fault(node, "/ makes a float: use //, and mind which way it rounds")
        is_fixed = isinstance(right, ast.Constant) and isinstance(right.value, int)
        if isinstance(node.op, ast.Pow) and not is_fixed:
            self._fault(node, "** makes a float of a negative exponent: use a constant one, or <<")

    # --- names ---

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and self._scopes.of(node.id) is None:
            self._check_builtin(node)
        self._check_set(node)

    def _check_builtin(self, node: ast.Name) -> None:
        if node.id in BUILTINS:
            if not (self._framework and node.id in FRAMEWORK):
                self._fault(node, BUILTINS[node.id])
        elif node.id == "pow":
            call = self._scopes.parents[node]
            if not (isinstance(call, ast.Call) and call.func is node and len(call.args) == 3):
                self._fault(node, "pow() makes a float of a negative exponent: give it a modulus, or use **")
        elif node.id in ("set", "frozenset"):
            if not self._annotations and sets.hands_on_type(node, self._scopes):
                self._fault(node, f"{node.id}, handed on, makes sets, which have no order: use list or dict")
        elif node.id.startswith("__") and node.id not in DUNDERS:
            self._fault(node, f"{node.id}: {INSTEAD['inspect']}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr.startswith("__") and node.attr not in DUNDERS and not self._framework:
            self._fault(node, f".{node.attr}: {INSTEAD['inspect']}")
        reached = self._scopes.reached(node)
        if reached is not None and _is_under(reached, *PROJECT):
            self._check_reached(node, reached)
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._check_attribute_store(node)
        self.generic_visit(node)

    # --- state outside of storage ---

    def visit_Global(self, node: ast.Global) -> None:
        self._fault(node, f"global {', '.join(node.names)}: {_outlives('it')}")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        is_changed = isinstance(node.ctx, ast.Store | ast.Del) and self._scopes.in_function()
        if is_changed and self._scopes.is_global(node.value):
            self._fault(node, _outlives(ast.unparse(node.value)))
        self.generic_visit(node)

    def _check_attribute_store(self, node: ast.Attribute) -> None:
        base, scopes = node.value, self._scopes
        is_class = isinstance(base, ast.Call) and scopes.is_builtin(base.func, "type")
        if scopes.in_function() and (is_class or scopes.is_global(base)):
            self._fault(node, _outlives(ast.unparse(base)))
        if isinstance(base, ast.Name) and base.id == "self" and _is_runtime_module(scopes.innermost_class()):
            self._fault(
                node, f"self.{node.attr} ends with the block, and an undone call leaves it: declare a StorageValue"
            )

    def visit_Call(self, node: ast.Call) -> None:
        function, scopes = node.func, self._scopes
        if scopes.in_function():
            changed: ast.AST | None = None
            if isinstance(function, ast.Attribute) and function.attr in MUTATORS:
                changed = function.value
            elif scopes.is_builtin(function, "next") and node.args:
                changed = node.args[0]
            if changed is not None and scopes.is_variable(changed):
                self._fault(node, _outlives(ast.unparse(changed)))
        self._visit_maybe_set(node)

    # --- faults that are one machine's ---

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        for each in caught:
            # A framework sees to what modules raise; it hides nothing where it raises in the end.
            passed_on = self._framework and isinstance(node.body[-1], ast.Raise)
            if not passed_on and (each is None or self._scopes.is_builtin(each, *BROAD)):
                what = "except:" if each is None else f"except {ast.unparse(each)}"
                self._fault(node, f"{what} also catches what goes wrong on one machine alone: name the error expected")
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        for leaving in _leaving(node.finalbody):
            what = type(leaving).__name__.lower()
            self._fault(
                leaving, f"{what} in finally hides whatever went wrong, on one machine alone, too: put it behind"
            )
        self.generic_visit(node)

    # --- sets ---

    def _visit_maybe_set(self, node: ast.AST) -> None:
        self._check_set(node)
        self.generic_visit(node)

    visit_Set = visit_BoolOp = visit_IfExp = visit_NamedExpr = _visit_maybe_set

    def _check_set(self, node: ast.AST) -> None:
        scopes = self._scopes
        is_read = not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) and not self._annotations
        if is_read and sets.is_set(node, scopes) and sets.shows_order(node, scopes):
            self._fault(
                node,
                f"{ast.unparse(node)} is a set, whose order differs between processes: ask it (in, len, <=, any), or "
                "go through sorted(…) of it; dict.fromkeys(…) keeps an order",
            )


def _leaving(body: Sequence[ast.AST], *, in_loop: bool = False) -> Iterator[ast.AST]:
    """What in a `finally` leaves it before its end, with what was raised forgotten."""
    for node in body:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break | ast.Continue) and not in_loop):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            loop = in_loop or isinstance(node, ast.For | ast.While)
            yield from _leaving(list(ast.iter_child_nodes(node)), in_loop=loop)


def _outlives(name: str) -> str:
    return f"{name} outlives the block, and differs where another block was tried before: keep what changes in storage"


def _is_mutable(node: ast.AST) -> bool:
    if isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MUTABLE_MAKERS


def _is_runtime_module(cls: ast.ClassDef | None) -> bool:
    """Whether a class is a runtime module, by what it is derived from or declares."""
    if cls is None:
        return False
    bases = [(dotted(base) or "").rpartition(".")[2] for base in cls.bases]
    return "Module" in bases or any(_declares(statement) for statement in cls.body)


def _declares(statement: ast.AST) -> bool:
    """Whether a class's statement is a storage item, or a call."""
    match statement:
        case ast.Assign(value=ast.Call(func=ast.Subscript(value=ast.Name(id=name)))):
            return name in ("StorageValue", "StorageMap")
        case ast.FunctionDef(decorator_list=decorators):
            return any(isinstance(each, ast.Call) and dotted(each.func) == "call" for each in decorators)
    return False


def _is_under(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
