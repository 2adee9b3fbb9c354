"""`potchain module`: begin a runtime module, check that it is deterministic, weigh its calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chain.cli_common import EXIT_FAILED, UserError
from chain.display import Progress

app = typer.Typer(help="Write runtime modules of your own.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the module is called, such as guest_book.")],
    path: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write.")] = Path(),
    chain: Annotated[
        str, typer.Option(metavar="NAME", help="The chain that gets the module; begun with a genesis file if new.")
    ] = "my_chain",
) -> None:
    """Write a new module with its test, and a chain to run it on."""
    from chain.scaffold import CannotWrite, Name, plan

    try:
        module, chain_name = Name.of(name), Name.of(chain)
        planned = plan(path, module, chain_name)
    except CannotWrite as error:
        raise UserError(str(error)) from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--path: cannot make the folder {path}: {error.strerror}; choose another") from None
    for file, (text, what) in planned.new.items():
        with file.open("x") as opened:
            opened.write(text)
        print(f"{file!s:<32}  {what}")
    if planned.chain not in planned.new:
        if planned.extended is None:
            print(
                f"{planned.chain!s:<32}  add to it by hand: the import, the view's attribute, and an index of its own"
            )
        else:
            planned.chain.write_text(planned.extended)
            print(f"{planned.chain!s:<32}  has the module under the next index")
    print(f"\nNext, in {path}:  pytest,  potchain module check {chain_name.snake}:RUNTIME,")
    print(f"potchain module weigh test_{module.snake}.py,  and  potchain --genesis genesis.json")


@app.command()
def check(
    reference: Annotated[
        str,
        typer.Argument(metavar="FILE|MODULE:RUNTIME", help="A Python file, or a runtime as a genesis file names it."),
    ],
) -> None:
    """Find what could give each validator another result.

    Everything that the file, or the runtime's modules, import of their own package is read too.
    """
    from genesis.guard.files import check_file
    from genesis.runtimes import check as check_imported
    from genesis.runtimes import import_runtime

    file = Path(reference)
    if file.suffix == ".py" or file.exists():
        if file.suffix != ".py":
            raise UserError(f"{file} is no Python file; give one, or MODULE:RUNTIME as a genesis file names it")
        try:
            report = check_file(file)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    else:
        report = check_imported(reference, import_runtime(reference, Path()))
    for finding in report.findings:
        print(finding)
    if report.findings:
        raise typer.Exit(EXIT_FAILED)
    count = f"{len(report.files)} file{'s' if len(report.files) != 1 else ''}"
    print(f"{count}: nothing that two validators could execute differently")


@app.command()
def weigh(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python file with benchmarks.")],
    call: Annotated[str, typer.Option(metavar="PATH", help="Only these calls: a module, or MODULE.CALL.")] = "",
    runs: Annotated[int, typer.Option(metavar="N", help="How often to make each call.", min=10, max=100_000)] = 200,
) -> None:
    """Measure what calls take on this machine, and compare it with the weight that they declare."""
    from chain.weigh import CannotWeigh, benchmarks_in, findings_of, unweighed
    from chain.weigh import weigh as measure

    try:
        cases = [(each.name, each.prepare()) for each in benchmarks_in(file)]
        wanted = [(name, prepared) for name, prepared in cases if _is_under(prepared.call.path, call)]
        if not wanted:
            raise UserError(f"{file} has no benchmark of {call}")
        findings = [
            str(finding) for runtime in {each.runtime for _, each in wanted} for finding in findings_of(runtime)
        ]
        for finding in findings:
            print(finding)
        print(f"{'call':<36}  {'declared':>9}  {'median':>9}  {'spread':>9}  {'used':>6}  case")
        progress = Progress()
        exceeding = []
        for name, prepared in wanted:
            progress.show(f"{name} …")
            weighed = measure(name, prepared, runs)
            progress.clear()
            figures = (f"{figure:>6,.0f} µs" for figure in (weighed.declared, weighed.median, weighed.spread))
            end = "  TAKES MORE" if weighed.exceeds else ""
            print(f"{weighed.call:<36}  {'  '.join(figures)}  {weighed.percent:>4,.0f} %  {name}{end}")
            if weighed.exceeds:
                exceeding.append(weighed.call)
    except CannotWeigh as error:
        raise UserError(str(error)) from None
    missing = unweighed(prepared for _, prepared in wanted)
    if missing and not call:
        print(f"no benchmark makes {', '.join(missing)}")
    if findings:
        print("no node runs a module that validators may execute differently: see the lines above")
    if exceeding:
        print(f"declare more for {', '.join(dict.fromkeys(exceeding))}: a call that takes more slows every block down")
    if exceeding or findings:
        raise typer.Exit(EXIT_FAILED)


def _is_under(path: str, wanted: str) -> bool:
    return not wanted or path == wanted or path.startswith(wanted + ".")
