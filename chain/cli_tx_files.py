"""`potchain tx prepare`, `sign` and `submit`: a key that is on a machine without network signs all the same.

Rule: `sign` believes nothing of its file but what is signed. It decodes the call by the runtime that is installed with
it, or that of a genesis file, and says so where it has nothing but the file's own description.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer

from chain.cli_calls import arguments_of, called, explain, read_file
from chain.cli_common import UserError, agree
from chain.cli_how import GenesisOption, How, YesOption, told_how
from chain.cli_secrets import takes_key
from chain.cli_send import FromOption, Make, attempt, drafted, follow, show_draft, signers_of
from chain.cli_wallet import refuse, say, words_of
from chain.display import Token
from chain.primitives.keys import Scheme
from chain.primitives.scale import ScaleError
from chain.primitives.types import sender_and_nonce
from chain.wallet.codec import Codec, WordError, read_hex
from chain.wallet.known import Known
from chain.wallet.metadata import Metadata, MetadataError
from chain.wallet.node import for_people, open_chain
from chain.wallet.transaction import BadFile, CannotSign, Prepared, check_extensions

# Who carries a file from one machine to another needs minutes; chains forget the hash that an era begins with.
BLOCKS = 256
# What nobody vouches for says nothing of its unit, either: a trillion planck must not look like one token.
PLANCK = Token("planck", 0)

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write; it must not exist yet.")
]


@told_how("yes", "dry_run", "watch", "as_json")
def prepare_transaction(
    context: typer.Context,
    how: How,
    path: Annotated[
        str | None, typer.Argument(metavar="MODULE.CALL", help="The call, such as balances.transfer_keep_alive.")
    ] = None,
    account: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="Who will sign.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write; it must not exist yet.")
    ] = None,
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
        trio.run(partial(explain, how.rpc, path, as_json=False))
        return
    if path is None or path.startswith("-"):
        raise UserError("expected MODULE.CALL before its arguments; see: potchain tx prepare --help")
    if account is None or output is None:
        raise UserError("expected --from ADDRESS, who will sign, and --output FILE; see: potchain tx prepare --help")
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
    genesis: GenesisOption = None,
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


def _description(prepared: Prepared, genesis: str | None) -> tuple[Metadata, Token, int, str]:
    """By what to decode a call, how to show its amounts and accounts, and how far all that is to be believed."""
    draft, known = prepared.draft, Known.of(genesis)
    if known.genesis_hash not in (None, draft.genesis_hash):
        assert known.genesis_hash is not None
        raise UserError(
            f"the transaction is for the chain of genesis 0x{draft.genesis_hash.hex()}, and --genesis says "
            f"0x{known.genesis_hash.hex()}; nothing was signed"
        )
    if known.describes(draft):
        belief = f"decoded by the runtime {'that is ' if genesis is None else ''}{known.source}"
        return Metadata.parse(known.runtime.metadata(15)), known.token, known.prefix, belief
    if genesis is not None:
        raise UserError(f"the runtime {known.source} is not the one that the transaction is for; nothing was signed")
    try:
        metadata = Metadata.parse(prepared.metadata)
    except MetadataError as error:
        raise UserError(f"the file's metadata: {error}") from None
    warning = "decoded by what the file says of the chain, which nothing here confirms: give --genesis FILE to check it"
    return metadata, PLANCK, prepared.prefix, f"warning: {warning}"


@told_how("yes", "tip", "nonce", "era", "genesis", "trust_node")
def submit_transaction(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `potchain tx sign` wrote.")], how: How
) -> None:
    """Send a signed transaction, and wait until it is final."""
    try:
        raw = read_hex(read_file(str(file)).decode().strip(), "0x and the hex digits of a signed transaction")
    except (WordError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
    if sender_and_nonce(raw) is None:
        raise UserError(f"{file}: expected a signed transaction, as potchain tx sign writes it, got something else")
    trio.run(_submit, how, raw)


async def _submit(how: How, raw: bytes) -> None:
    async with open_chain(how.rpc, partial(words_of, Scheme.ED25519)) as chain:
        if how.dry_run:
            await attempt(chain, raw, as_json=how.as_json)
        else:
            await follow(chain, raw, how.watch, as_json=how.as_json)


def _write(path: Path, text: str) -> None:
    """A new file; UserError where there is one, or none can be made."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already and is left as it is; give another --output") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
