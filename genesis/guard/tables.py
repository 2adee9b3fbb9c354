"""What a runtime module's source may use, and what to use instead of the rest.

Rule: the standard library is let in by name. What is not in the table is refused, so that a new Python version or an
overlooked library lets in nothing that differs between machines.
"""

from __future__ import annotations

from typing import Final

# Names that a module may import from the standard library. Each is a function of its arguments alone, in integers.
ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "__future__": ("annotations",),
    "abc": ("ABC", "abstractmethod"),
    "bisect": ("bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"),
    "collections": ("ChainMap", "Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"),
    "collections.abc": (
        *("Callable", "Collection", "Container", "Generator", "Hashable", "ItemsView", "Iterable", "Iterator"),
        *("KeysView", "Mapping", "MutableMapping", "MutableSequence", "Reversible", "Sequence", "Sized", "ValuesView"),
    ),
    "dataclasses": ("KW_ONLY", "InitVar", "asdict", "astuple", "dataclass", "field", "fields", "replace"),
    "enum": ("Enum", "Flag", "IntEnum", "IntFlag", "StrEnum", "auto", "unique"),
    "functools": ("partial", "reduce", "total_ordering"),
    "hashlib": ("blake2b", "blake2s", "sha256", "sha3_256", "sha3_512", "sha512"),
    "heapq": ("heapify", "heappop", "heappush", "heappushpop", "heapreplace", "merge", "nlargest", "nsmallest"),
    "itertools": (
        *("accumulate", "chain", "combinations", "compress", "dropwhile", "filterfalse", "groupby", "islice"),
        *("pairwise", "permutations", "product", "repeat", "starmap", "takewhile", "zip_longest"),
    ),
    "math": ("comb", "factorial", "gcd", "isqrt", "lcm", "perm"),
    "operator": ("itemgetter",),
    "string": ("ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "hexdigits"),
    "types": ("MappingProxyType",),
    "typing": (
        *("TYPE_CHECKING", "Annotated", "Any", "Callable", "ClassVar", "Final", "Generic", "Iterable", "Iterator"),
        *("Literal", "Mapping", "NamedTuple", "Never", "NewType", "NoReturn", "Optional", "Protocol", "Self"),
        *("Sequence", "TypeAlias", "TypeVar", "Union", "assert_never", "cast", "final", "overload"),
    ),
}

# The packages of this project, those that a module builds on, and what of these is for tests and wallets alone.
OURS: Final = ("chain", "consensus", "genesis", "runtime", "trainer")
PROJECT: Final = ("chain.primitives", "runtime")
NOT_FOR_MODULES: Final[dict[str, str]] = {
    "runtime.testing": "it is for tests: import it in a test file",
    "chain.primitives.keys.Keypair": "a module holds no secrets: check signatures with chain.primitives.keys.verify",
    "chain.primitives.keys.new_phrase": "it is random: draw from self.validators.randomness()",
    "chain.primitives.sr25519.sign": "its signatures are random: check them with chain.primitives.keys.verify",
    "chain.primitives.ed25519.sign": "a module holds no secrets: check signatures with chain.primitives.keys.verify",
    "chain.primitives.types.sign_extrinsic": "a module holds no secrets: call the other module itself",
}

_CLOCK: Final = "machines' clocks differ: ask the block's, self.timestamp.now.get()"
_CHANCE: Final = "every machine would draw another: draw from self.validators.randomness(), which all share"
_OUTSIDE: Final = "machines differ in what is around them: read storage, constants and the genesis config"
_NETWORK: Final = "a block waits for nobody: let a program outside send what it knows in a call"
_THREADS: Final = "the order of what runs at once differs: call one after the other"
_TALK: Final = "a module speaks in events: self.emit(…)"
_INTEGERS: Final = "machines and versions round differently: use integers, such as parts per million, and //"
_ENCODING: Final = "its results differ between machines or versions: use chain.primitives.scale"
_CODE: Final = "what validators execute must be in the source: write it out"
_REFLECTION: Final = "what it reaches cannot be seen in the source: name the attribute, or keep a dict"

# What is wrong with the best-known of what is refused.
INSTEAD: Final[dict[str, str]] = {
    **dict.fromkeys(("time", "datetime", "calendar", "zoneinfo", "sched"), _CLOCK),
    **dict.fromkeys(("random", "secrets", "uuid"), _CHANCE),
    **dict.fromkeys(
        (
            *("builtins", "fileinput", "getpass", "glob", "io", "locale", "mmap", "os", "pathlib", "platform", "posix"),
            *("resource", "shutil", "site", "sqlite3", "stat", "sys", "sysconfig", "tempfile", "zipfile"),
        ),
        _OUTSIDE,
    ),
    **dict.fromkeys(("ftplib", "http", "requests", "select", "smtplib", "socket", "ssl", "urllib"), _NETWORK),
    **dict.fromkeys(
        (
            *("asyncio", "concurrent", "contextvars", "multiprocessing", "queue", "sched", "signal", "subprocess"),
            *("threading", "trio"),
        ),
        _THREADS,
    ),
    **dict.fromkeys(("logging", "warnings", "pprint"), _TALK),
    **dict.fromkeys(("cmath", "decimal", "fractions", "math", "numbers", "numpy", "statistics", "jax"), _INTEGERS),
    **dict.fromkeys(("array", "csv", "ctypes", "json", "marshal", "msgpack", "pickle", "struct", "xml"), _ENCODING),
    **dict.fromkeys(("ast", "code", "codeop", "importlib", "pkgutil", "runpy"), _CODE),
    **dict.fromkeys(("dis", "gc", "inspect", "traceback", "tracemalloc", "weakref"), _REFLECTION),
    "hashlib": "take one of the hashes that every machine has, or chain.primitives.hashing",
    "re": "what letters are differs between Python versions: compare bytes",
    "functools": "a cache outlives the block whose state it has seen: keep it in storage, or in a local variable",
    "itertools": "count, cycle and tee keep a position between blocks: use range",
    "copy": "values that are stored are frozen: dataclasses.replace makes a changed one",
}

# Builtins that a module may not use.
BUILTINS: Final[dict[str, str]] = {
    "float": f"float: {_INTEGERS}",
    "complex": f"complex: {_INTEGERS}",
    "hash": "hash() differs between processes: use chain.primitives.hashing.blake2_256",
    "id": "id() is an address in memory: compare values with ==",
    **{name: f"{name}(): {_CODE}" for name in ("eval", "exec", "compile", "__import__")},
    **{
        name: f"{name}(): {_REFLECTION}"
        for name in ("getattr", "setattr", "delattr", "hasattr", "vars", "dir", "globals", "locals")
    },
    **{name: f"{name}(): {_OUTSIDE}" for name in ("open", "input")},
    "print": f"print(): {_TALK}",
    **{name: f"{name}() is for people at a terminal" for name in ("breakpoint", "help", "exit", "quit")},
}

# What a framework may use beyond that: it reads the classes that modules are declared as, before any block.
FRAMEWORK: Final = ("getattr", "hasattr", "inspect", "setattr", "vars", "weakref")

# Attributes with two underscores that say no more than the source does.
DUNDERS: Final = ("__doc__", "__init__", "__name__", "__post_init__", "__str__")

# Catching these hides a fault of one machine (no memory, no room on its stack), which then goes on unlike the others.
BROAD: Final = (
    *("BaseException", "BaseExceptionGroup", "EnvironmentError", "Exception", "ExceptionGroup"),
    *("IOError", "KeyboardInterrupt", "MemoryError", "OSError", "RecursionError", "RuntimeError", "SystemError"),
)

# What changes a list, a dict, a set or a deque in place.
MUTATORS: Final = (
    *("add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert"),
    *("intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault"),
    *("sort", "subtract", "update"),
)
MUTABLE_MAKERS: Final = ("Counter", "OrderedDict", "bytearray", "defaultdict", "deque", "dict", "list", "set")
