"""`potchain doctor`: says what is wrong with this machine, or with a node's folder, and what mends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chain.cli_common import EXIT_FAILED, default_base_path
from chain.cli_db import folder_among
from chain.cli_node import PORT, RPC_PORT
from chain.cli_secrets import key_at, keystore_at
from chain.display import put

FOUND_COLUMN = 16  # where a line says what was found, behind level and subject


def doctor(
    context: typer.Context,
    jax: Annotated[
        bool, typer.Option("--jax/--no-jax", help="Ask JAX which devices it sees, which takes seconds.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what keeps a node from running well: clock, disk, ports, limits, memory, peers, versions, keys, blocks.

    Which node is said before the word doctor, with the flags that run it. Each line says ok, warn or bad, and what
    mends it; exits with 1 if anything is bad.
    """
    from chain.doctor import Level, Patient, examine
    from chain.rpc.protocol import Limits
    from genesis.spec import load, parse_address

    given = context.find_root().params
    spec = None if given["genesis"] is None else load(given["genesis"])
    base: Path = given["base_path"] or default_base_path("" if spec is None else spec.id)
    validator: str | None = given["validator"]
    known = None if spec is None or validator is None else spec.validator_key(validator)
    is_file = validator is not None and known is None and not validator.startswith(("//", "-"))
    offset = 0 if known is None else known[0]
    bootnodes = [parse_address(text) for text in given["bootnode"] or ()]
    patient = Patient(
        base=base,
        folder=None if spec is None else folder_among(spec, base, given),
        rpc_port=given["rpc_port"] or RPC_PORT + offset,
        port=given["port"] or PORT + offset,
        clients_max=given["rpc_max_connections"] or Limits().connections_max,
        bootnodes=bootnodes or ([] if spec is None else list(spec.bootnodes)),
        keystore=keystore_at(given["keystore_path"]),
        key_file=key_at(validator, given["keystore_path"]).path() if validator is not None and is_file else None,
        with_jax=jax,
    )
    lines = []
    for line in examine(patient):
        lines.append(line)
        if not as_json:
            put(f"{line.level.value:<4}  {line.what:<9} {line.found}", FOUND_COLUMN)
            if line.mend:
                put(f"{'':<{FOUND_COLUMN}}mend it: {line.mend}", FOUND_COLUMN)
    if as_json:
        found = [
            {"level": line.level.value, "what": line.what, "found": line.found, "mend": line.mend} for line in lines
        ]
        print(json.dumps(found, indent=2))
    if any(line.level is Level.BAD for line in lines):
        raise typer.Exit(EXIT_FAILED)
