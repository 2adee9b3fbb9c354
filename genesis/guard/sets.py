"""Sets in a source: which expressions are known to be one, and where its order would have an effect.

A set may be asked anything whose answer is the same in every order, and kept in a name, which is then watched. It may
not be gone through, handed on or returned.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Final

from genesis.guard.scopes import Scope, Scopes, walk_scope

# Functions to which the order of their argument is nothing, as long as they are given no key.
READERS: Final = ("all", "any", "bool", "frozenset", "isinstance", "len", "max", "min", "set", "sorted", "sum")
MAKERS: Final = ("copy", "difference", "intersection", "symmetric_difference", "union")
METHODS: Final = (
    *(*MAKERS, "add", "clear", "difference_update", "discard", "intersection_update", "isdisjoint", "issubset"),
    *("issuperset", "remove", "symmetric_difference_update", "update"),
)
TYPES: Final = ("set", "frozenset", "Set", "MutableSet")
_OPERATORS: Final = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)


def is_set(node: ast.AST, scopes: Scopes) -> bool:
    """Whether an expression is known to be a set."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name):
            scope = scopes.of(name)
            return scope is not None and name in scope.sets
        case ast.Call(func=ast.Attribute(value=base, attr=method)):
            return method in MAKERS and is_set(base, scopes)
        case ast.Call(func=function):
            return scopes.is_builtin(function, "set", "frozenset")
        case ast.BinOp(left=left, op=operator, right=right):
            sides = (left, right)
            return isinstance(operator, _OPERATORS) and any(is_set(side, scopes) or _is_view(side) for side in sides)
        case ast.IfExp(body=body, orelse=otherwise):
            return is_set(body, scopes) or is_set(otherwise, scopes)
        case ast.BoolOp(values=values):
            return any(is_set(value, scopes) for value in values)
        case ast.NamedExpr(value=value):
            return is_set(value, scopes)
    return False


def watch(scope: Scope, body: Sequence[ast.AST], scopes: Scopes) -> None:
    """Note the names of a scope that hold sets."""
    node = scope.node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        scope.sets.update(each.arg for each in arguments if each.annotation is not None and _says_set(each.annotation))
    for _ in range(2):  # a name may hold what another one, assigned further down, holds
        for inner in (inner for statement in body for inner in walk_scope(statement)):
            if isinstance(inner, ast.Assign | ast.AnnAssign | ast.NamedExpr) and inner.value is not None:
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                if is_set(inner.value, scopes):
                    scope.sets.update(target.id for target in targets if isinstance(target, ast.Name))


def shows_order(node: ast.AST, scopes: Scopes) -> bool:
    """Whether a set is used where its order has an effect, or could not be watched any further."""
    parent = scopes.parents[node]
    match parent:
        case ast.Compare() | ast.Expr() | ast.UnaryOp() | ast.Assert() | ast.While() | ast.If():
            return False
        case ast.IfExp() | ast.BoolOp() | ast.NamedExpr():
            return False  # that is a set then, and looked at itself
        case ast.BinOp():
            return not is_set(parent, scopes)
        case ast.Assign(targets=targets):
            return not all(isinstance(target, ast.Name) for target in targets) or _in_class_body(scopes)
        case ast.AnnAssign(target=target):
            return not isinstance(target, ast.Name) or _in_class_body(scopes)
        case ast.AugAssign(target=target):
            return not (isinstance(target, ast.Name) and is_set(target, scopes))
        case ast.Attribute(attr=method):
            call = scopes.parents[parent]
            return not (method in METHODS and isinstance(call, ast.Call) and call.func is parent)
        case ast.Call(func=ast.Attribute(value=base, attr=method)):
            return not (method in METHODS and is_set(base, scopes))
        case ast.Call():
            return not _reads(parent, scopes)
        case ast.comprehension():
            made = scopes.parents[parent]
            if isinstance(made, ast.SetComp):
                return False
            reader = scopes.parents[made]
            return isinstance(made, ast.DictComp) or not (isinstance(reader, ast.Call) and _reads(reader, scopes))
    return True


def hands_on_type(node: ast.Name, scopes: Scopes) -> bool:
    """Whether `set` itself goes somewhere, to make sets that nobody watches: it may only be called and asked about."""
    parent = scopes.parents[node]
    while isinstance(parent, ast.BinOp | ast.Tuple):  # isinstance(x, list | set)
        parent = scopes.parents[parent]
    return not (isinstance(parent, ast.Call) and (parent.func is node or scopes.is_builtin(parent.func, "isinstance")))


def _reads(call: ast.Call, scopes: Scopes) -> bool:
    """Whether order is nothing to the function. A key makes equals of what differs, and equals keep the set's order."""
    return scopes.is_builtin(call.func, *READERS) and all(word.arg not in ("key", None) for word in call.keywords)


def _in_class_body(scopes: Scopes) -> bool:
    return isinstance(scopes.innermost.node, ast.ClassDef)


def _is_view(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("items", "keys")


def _says_set(annotation: ast.AST) -> bool:
    return any(isinstance(node, ast.Name) and node.id in TYPES for node in ast.walk(annotation))
