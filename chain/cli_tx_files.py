"""`potchain tx prepare`, `sign` and `submit`: a key that is on a machine without network signs all the same.

Rule: `sign` believes nothing of its file but what is signed. It decodes the call by the runtime that is installed with
it, or that of a genesis file, and says so where it has nothing but the file's own description.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from chain.cli_calls import arguments_of, called, explain, read_file
from chain.cli_common import DEFAULT_RPC, NodeOption, UserError, agree
from chain.cli_secrets import takes_key
from chain.cli_send import (
    DryRunOption,
    EraOption,
    FromOption,
    How,
    Make,
    NonceOption,
    TipOption,
    Watch,
    WatchOption,
    YesOption,
    attempt,
    drafted,
    follow,
    show_draft,
    signers_of,
)
from chain.cli_wallet import JsonOption, refuse, say, words_of
from chain.display import POTS, Token
from chain.primitives.keys import Scheme
from chain.primitives.scale import ScaleError
from chain.primitives.types import sender_and_nonce
from chain.wallet.codec import Codec, WordError, read_hex
from chain.wallet.known import is_of
from chain.wallet.metadata import Metadata, MetadataError
from chain.wallet.node import for_people, open_chain
from chain.wallet.transaction import BadFile, CannotSign, Prepared, check_extensions
from runtime.composition import Runtime
from runtime.modules.system import SS58_PREFIX
from runtime.potchain import RUNTIME

# Who carries a file from one machine to another needs minutes; chains forget the hash that an era begins with.
BLOCKS = 256
# What nobody vouches for says nothing of its unit, either: a trillion planck must not look like one token.
PLANCK = Token("planck", 0)

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write; it must not exist yet.")
]


def prepare_transaction(
    context: typer.Context,
    path: Annotated[
        str | None, typer.Argument(metavar="MODULE.CALL", help="The call, such as balances.transfer_keep_alive.")
    ] = None,
    account: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Who will sign.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write; it must not exist yet.")
    ] = None,
    tip: TipOption = None,
    nonce: NonceOption = None,
    era: EraOption = None,
    rpc: NodeOption = DEFAULT_RPC,
    explained: Annotated[
        bool, typer.Option("--help", help="Show this message, or with MODULE.CALL what that call does and takes.")
    ] = False,
) -> None:
    """Write all that is needed to sign a call elsewhere: potchain tx prepare MODULE.CALL --ARGUMENT VALUE …

    Then, on the machine with the key: potchain tx sign FILE. Then here again: potchain tx submit SIGNED.
    """
    if explained and path is None:
        print(context.get_help())
        return
    if explained:
        trio.run(partial(explain, rpc, path, as_json=False))
        return
    if path is None or path.startswith("-"):
        raise UserError("expected MODULE.CALL before its arguments; see: potchain tx prepare --help")
    if account is None or output is None:
        raise UserError("expected --from ADDRESS, who will sign, and --output FILE; see: potchain tx prepare --help")
    how = How(rpc, tip=tip, nonce=nonce, era=era)
    trio.run(_prepare, how, called(path, arguments_of(context.args)), account, output)


async def _prepare(how: How, make: Make, account: str, output: Path) -> None:
    async with open_chain(how.rpc, partial(words_of, Scheme.ED25519)) as chain:
        try:
            signer = chain.codec.words.account(account)
        except WordError as error:
            refuse(error)
        draft = await drafted(chain, how, signer, make, BLOCKS)
        fee = await chain.fee(draft)
        _write(output, Prepared(draft, chain.prefix, chain.metadata.raw).to_json())
        show_draft(chain.people, draft, ("fee", f"{chain.token.format(fee + draft.tip)} at most"))
        say(f"written to {output}; sign it where the key is: potchain tx sign {output} --from KEY --output SIGNED")


@takes_key
def sign_transaction(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `potchain tx prepare` wrote.")],
    key: FromOption,
    output: OutputOption,
    genesis: Annotated[
        Path | None,
        typer.Option("--genesis", metavar="FILE", help="Genesis file of the chain, to check the transaction by."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Sign a prepared transaction; this needs no network, and shows from the signed bytes what they do."""
    prepared = _prepared(file)
    draft = prepared.draft
    metadata, token, prefix, belief = _description(prepared, genesis)
    try:
        check_extensions(metadata)
        codec = for_people(Codec(metadata, words_of(Scheme.ED25519, token, prefix)), token)
        chain = f"genesis 0x{draft.genesis_hash.hex()}, {draft.spec_name} {draft.spec_version}"
        show_draft(codec, draft, ("tip", token.format(draft.tip)), ("chain", chain))
    except (CannotSign, MetadataError, ScaleError) as error:
        raise UserError(f"{file}: the call is none of this chain's: {error}; nothing was signed") from None
    say(belief)
    accounts = {keypair.public: keypair for keypair in signers_of(key, None).accounts.values()}
    keypair = accounts.get(draft.account)
    if keypair is None:
        theirs = " and ".join(codec.words.address(public) for public in accounts)
        raise UserError(
            f"{file} is to be signed by {codec.words.address(draft.account)}, and the key is of {theirs}; nothing was "
            "signed"
        )
    if not yes:
        agree("sign it?", "nothing was signed")
    _write(output, f"0x{draft.sign(keypair).hex()}\n")
    say(f"written to {output}; send it from a machine with network: potchain tx submit {output}")


def _prepared(file: Path) -> Prepared:
    try:
        return Prepared.from_json(read_file(str(file)).decode())
    except (BadFile, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None


def _description(prepared: Prepared, genesis: Path | None) -> tuple[Metadata, Token, int, str]:
    """By what to decode a call, how to show its amounts and accounts, and how far all that is to be believed."""
    draft = prepared.draft
    if genesis is not None:
        from chain.light.checkpoint import Checkpoint
        from genesis.spec import load

        spec = load(genesis)
        found = Checkpoint.of(spec).genesis_hash
        if found != draft.genesis_hash:
            raise UserError(
                f"the transaction is for the chain of genesis 0x{draft.genesis_hash.hex()}, and {genesis} makes "
                f"0x{found.hex()}; nothing was signed"
            )
        if not is_of(spec.runtime, draft):
            raise UserError(f"{genesis} has another runtime than the transaction is for; nothing was signed")
        token = Token(spec.properties.token_symbol, spec.properties.token_decimals)
        return _installed(spec.runtime), token, spec.properties.ss58_format, f"decoded by the runtime of {genesis}"
    if is_of(RUNTIME, draft):
        return _installed(RUNTIME), POTS, SS58_PREFIX, "decoded by the runtime that is installed here"
    try:
        metadata = Metadata.parse(prepared.metadata)
    except MetadataError as error:
        raise UserError(f"the file's metadata: {error}") from None
    warning = "decoded by what the file says of the chain, which nothing here confirms: give --genesis FILE to check it"
    return metadata, PLANCK, prepared.prefix, f"warning: {warning}"


def _installed(runtime: Runtime[Any]) -> Metadata:
    return Metadata.parse(runtime.metadata(15))


def submit_transaction(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `potchain tx sign` wrote.")],
    dry_run: DryRunOption = False,
    watch: WatchOption = Watch.FINALIZED,
    json: JsonOption = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Send a signed transaction, and wait until it is final."""
    try:
        raw = read_hex(read_file(str(file)).decode().strip(), "0x and the hex digits of a signed transaction")
    except (WordError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
    if sender_and_nonce(raw) is None:
        raise UserError(f"{file}: expected a signed transaction, as potchain tx sign writes it, got something else")
    trio.run(partial(_submit, rpc, raw, watch, dry_run=dry_run, as_json=json))


async def _submit(rpc: str, raw: bytes, watch: Watch, *, dry_run: bool, as_json: bool) -> None:
    async with open_chain(rpc, partial(words_of, Scheme.ED25519)) as chain:
        if dry_run:
            await attempt(chain, raw, as_json=as_json)
        else:
            await follow(chain, raw, watch, as_json=as_json)


def _write(path: Path, text: str) -> None:
    """A new file; UserError where there is one, or none can be made."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already and is left as it is; give another --output") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
