"""Writes docs/reference/ from the code: commands, RPC methods, the runtime's modules, and metrics.

    .venv/bin/python scripts/reference.py

A test compares the pages with what this would write, so that they say what the code does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import Any

import typer

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT))

from chain.cli import app  # noqa: E402
from chain.metrics.metric import Kind, Metric  # noqa: E402
from chain.metrics.node import DECLARED  # noqa: E402
from chain.primitives.scale import Codec  # noqa: E402
from chain.rpc.methods import all_methods  # noqa: E402
from chain.rpc.params import Parameter, WrongParameter  # noqa: E402
from chain.rpc.registry import Async as Awaiting  # noqa: E402
from chain.rpc.registry import Method, Subscription, Sync, Threaded, Unsubscribe  # noqa: E402
from runtime.framework import ConstantInfo, ModuleInfo  # noqa: E402
from runtime.metadata_registry import type_name  # noqa: E402
from runtime.potchain import RUNTIME  # noqa: E402
from trainer.metrics import Meter  # noqa: E402

COLUMNS = 100
# What Prometheus's client says of the process itself.
PROCESS = {
    "process_cpu_seconds_total": "CPU time of the process, in seconds.",
    "process_resident_memory_bytes": "Memory that it has.",
    "process_virtual_memory_bytes": "Address space that it has, with the whole map of the database.",
    "process_open_fds": "Files and sockets that it has open.",
    "process_max_fds": "How many it may have open.",
    "process_start_time_seconds": "When it began, in seconds since 1970.",
}
MADE = "<!-- made by scripts/reference.py -->"


def main() -> None:
    """Write every page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    made = {"commands.md": _commands(), "metrics.md": _metrics(), "modules.md": _modules(), "rpc.md": _rpc()}
    return {name: _page(lines) for name, lines in made.items()}


def _page(lines: Iterator[str]) -> str:
    title, *others = lines
    text = "\n".join((title, "", MADE, "", *others))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


# --- RPC methods ---


def _rpc() -> Iterator[str]:
    yield "# RPC methods"
    yield "JSON-RPC 2.0 over HTTP and WebSocket at one port (9944); subscriptions need a WebSocket. A parameter with a"
    yield "question mark may be left out, or null. Hashes and bytes are 0x-hex. **Unsafe** methods are refused from"
    yield "other machines, and to everybody with `--rpc-methods safe`."
    methods = all_methods(RUNTIME).methods
    by_handler: dict[object, list[str]] = {}
    for name, method in sorted(methods.items()):
        if not isinstance(method, Unsubscribe):
            by_handler.setdefault(_handler(method), []).append(name)
    first_names = sorted(names[0] for names in by_handler.values())
    for part, names in groupby(first_names, lambda name: name.partition("_")[0]):
        yield from ("", f"## {part}", "")
        for name in names:
            yield from _rpc_method(methods, by_handler[_handler(methods[name])])


def _rpc_method(methods: dict[str, Method], names: list[str]) -> Iterator[str]:
    """A method under its first name, with its others."""
    name, *others = names
    method = methods[name]
    assert not isinstance(method, Unsubscribe)
    yield f"### `{name}({', '.join(p.wire_name + '?' * p.optional for p in method.parameters)})`"
    yield ""
    unsafe = isinstance(method, Sync | Threaded | Awaiting) and method.unsafe
    yield from _docs(_handler(method).__doc__, prefix="**Unsafe.** " if unsafe else "")
    if others:
        yield f"Also called {', '.join(f'`{other}`' for other in others)}."
    if isinstance(method, Subscription):
        ends = [
            other
            for other, end in sorted(methods.items())
            if isinstance(end, Unsubscribe) and end.notification == method.terms.notification
        ]
        yield f"Items come as `{method.terms.notification}`; ended by {', '.join(f'`{end}`' for end in ends)}."
    yield ""
    for parameter in method.parameters:
        yield f"- `{parameter.wire_name}`: {_expected(parameter)}"
    if method.parameters:
        yield ""


def _handler(method: Method) -> Callable[..., Any]:
    """What a method calls."""
    match method:
        case Subscription():
            return method.open
        case Unsubscribe():
            raise TypeError("what ends a subscription has no handler of its own")
        case _:
            return method.call


def _expected(parameter: Parameter) -> str:
    """What a parameter has to be, in the words that refuse everything else."""
    try:
        parameter.decode(object())
    except WrongParameter as error:
        return str(error)
    raise AssertionError(f"{parameter.name} takes anything")


# --- commands ---


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield "What `--help` prints of each. `potchain` itself runs a chain or a node of it; the others use one."
    yield from _command(typer.main.get_command(app), None, "potchain")


def _command(command: Any, parent: Any, name: str) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=COLUMNS, max_content_width=COLUMNS
    )
    yield from ("", f"## {context.command_path}", "", "```", *command.get_help(context).splitlines(), "```")
    for child, found in sorted(getattr(command, "commands", {}).items()):
        if not found.hidden:
            yield from _command(found, context, child)


# --- modules ---


def _modules() -> Iterator[str]:
    yield "# Modules of the runtime"
    yield "Their calls, storage, events, errors and constants, as metadata tells wallets of them. Amounts are in"
    yield "planck: 10^12 of them are one POT."
    for module in RUNTIME.modules:
        yield from ("", f"## {module.name}", "")
        yield from _docs("\n".join(module.docs))
        yield from _calls(module)
        yield from _storage(module)
        rows = [(_signature(event.name, event.fields), event.docs) for event in module.events.values()]
        yield from _list("Events", rows)
        yield from _list("Errors", [(error.name, error.docs) for error in module.errors.values()])
        yield from _list("Constants", [(_constant(constant), constant.docs) for constant in module.constants.values()])


def _calls(module: ModuleInfo) -> Iterator[str]:
    yield from _list("Calls", [(_signature(call.name, call.arguments), call.docs) for call in module.calls.values()])


def _storage(module: ModuleInfo) -> Iterator[str]:
    rows = []
    for item in module.storage.values():
        keys = f"[{', '.join(map(_type, item.keys))}]" if item.keys else ""
        value = f"Option<{_type(item.value)}>" if item.optional else _type(item.value)
        rows.append((f"{item.name}{keys}: {value}", item.docs))
    yield from _list("Storage", rows)


def _constant(constant: ConstantInfo) -> str:
    """Its value where that is a number, else its type."""
    if isinstance(constant.value, int):
        return f"{constant.name} = {constant.value:,}"
    return f"{constant.name}: {_type(constant.codec)}"


def _list(title: str, rows: Sequence[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    if rows:
        yield from ("", f"### {title}", "")
        for name, docs in rows:
            said = " ".join(line.strip() for line in docs if line.strip())
            yield f"- `{name}`: {said}" if said else f"- `{name}`"


def _signature(name: str, fields: Sequence[tuple[str, Codec[Any]]]) -> str:
    return f"{name}({', '.join(f'{field}: {_type(codec)}' for field, codec in fields)})" if fields else name


def _type(codec: Codec[Any]) -> str:
    return type_name(codec) or "_"


# --- metrics ---


def _metrics() -> Iterator[str]:
    yield "# Metrics"
    yield "What a node answers at `http://127.0.0.1:9615/metrics`, and a worker, auditor or aggregator at its"
    yield "`--prometheus-port`. Names that begin with `substrate_` are Substrate's and mean what they mean there;"
    yield "Substrate's metrics of caches have no counterpart, since the database has none but the system's."
    yield "[Monitoring](../operate/monitoring.md) says how to collect them, and what to do about them."
    for part in DECLARED:
        title = (part.__doc__ or "").partition("\n")[0].removeprefix("Metrics of ").rstrip(".")
        yield from ("", f"## {title[0].upper()}{title[1:]}", "")
        yield from _table(each for each in vars(part).values() if isinstance(each, Metric))
    yield from ("", "## The process, as every program of Prometheus's client has it", "")
    yield from _table(
        Metric(name, Kind.COUNTER if name.endswith("_total") else Kind.GAUGE, about) for name, about in PROCESS.items()
    )
    yield from ("", "## Workers, auditors and aggregators", "")
    yield "With `potchain_auditor_` or `potchain_aggregator_` in place of `potchain_worker_` for those."
    yield ""
    yield from _table(_of_role("worker"))


def _of_role(role: str) -> Iterator[Metric]:
    """What the registry of a worker, auditor or aggregator has."""
    registry = Meter(role).registry
    for family in registry.collect():
        kind = Kind.GAUGE if family.type == "info" else Kind(family.type)
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = tuple(getattr(registry._names_to_collectors[family.name], "_labelnames", ()))
        yield Metric(name, kind, family.documentation, labels)


def _table(metrics: Iterable[Metric]) -> Iterator[str]:
    yield from ("| metric | kind | labels | what it says |", "|---|---|---|---|")
    for each in metrics:
        yield f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.about} |"


# --- words ---


def _docs(text: str | None, *, prefix: str = "") -> Iterator[str]:
    """A docstring as paragraphs."""
    first, _, others = (text or "").strip().partition("\n")
    yield from (prefix + first, *dedent(others).splitlines())


if __name__ == "__main__":
    main()
