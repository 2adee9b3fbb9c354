"""`potchain config`: which settings hold, and where each came from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from chain import settings
from chain.printable import printable

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.command()
def show(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of all other commands, as they are by default.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print each setting of a node, and those of other commands that were given, with where they came from.

    A flag counts before an environment variable, that before the file, that before the default.
    """
    found = [row for row in settings.rows(context) if everything or row.origin or not row.setting.path]
    if as_json:
        table = {
            row.setting.key: {
                "value": row.value,
                "from": row.origin or "default",
                "flag": f"--{row.setting.flag}",
                "variable": row.setting.variable,
            }
            for row in found
        }
        print(json.dumps(table, indent=2))
        return
    width = max(len(row.setting.key) for row in found)
    values = min(48, max(len(row.value) for row in found))
    for row in found:
        print(printable(f"{row.setting.key:<{width}}  {row.value or '-':<{values}}  {row.origin or 'default'}"))
    for name in settings.unknown_variables(context.find_root().command):
        print(f"{name} is no setting's variable, and is not read")
