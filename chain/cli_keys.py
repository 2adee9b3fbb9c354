"""`potchain key`: make, keep, show and use keys. A secret is shown at a terminal alone, and never is an argument."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from chain.cli_common import EXIT_FAILED, UserError
from chain.cli_secrets import (
    DESCRIPTOR_MAX,
    KEY_HELP,
    KeystorePath,
    PasswordFd,
    PasswordFilename,
    keystore_at,
    scheme_of,
    takes_key,
)
from chain.display import put
from chain.key_source import KeySource, Passwords, ask_secret, show_terminal
from chain.keystore import SESSION_MAX, KeyFile, KeyFileError, NoSuchKey, read_key, write_private
from chain.message import Message, SignatureError, read_signature
from chain.primitives import bls, ss58
from chain.primitives.keys import KeyUriError, Scheme, Secret, new_phrase
from chain.primitives.sealing import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, MODERATE, Cost
from chain.validator_keys import ValidatorKeys
from chain.wallet_json import EXPORT_BYTES_MAX, WalletExport, encode

MIB = 1 << 20
# What was meant as an address, although it may be none.
ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{46,50}")
MODERATE_MIB = MODERATE.memory_bytes // MIB

app = typer.Typer(help="Make keys, keep them under a password, look at them and sign with them.", no_args_is_help=True)

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Name of the key in the keystore.", show_default=False)
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write it to this new file, not into the keystore."),
]
SchemeOption = Annotated[
    str | None,
    typer.Option(metavar="SCHEME", help="Which account of the secret is meant: ed25519 (validators), or sr25519."),
]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="Write the secret as it stands: whoever reads the file has the key.")
]
Memory = Annotated[
    int,
    typer.Option(
        "--memory",
        metavar="MIB",
        min=MEMORY_BYTES_MIN // MIB + 1,
        max=MEMORY_BYTES_MAX // MIB,
        help="MiB of memory that it takes to try a password, and to open the key.",
    ),
]
Prefix = Annotated[int, typer.Option(metavar="N", help="SS58 prefix of the addresses.", min=0, max=16383)]
Key = Annotated[KeySource, typer.Argument(metavar="KEY", help=KEY_HELP)]
MessageText = Annotated[
    str | None, typer.Option("--message", metavar="TEXT", help="What is signed. [default: standard input, to its end]")
]
Hex = Annotated[bool, typer.Option("--hex", help="The message is given in hex.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Sign these very bytes, without the <Bytes> that wallets put around a message.")
]


@app.command()
def new(
    name: Name = None,
    output: Output = None,
    words: Annotated[int, typer.Option(metavar="N", help="Words of the phrase: 12, 15, 18, 21 or 24.")] = 12,
    scheme: SchemeOption = None,
    no_password: NoPassword = False,
    memory: Memory = MODERATE_MIB,
    password_filename: PasswordFilename = None,
    password_fd: PasswordFd = None,
    keystore_path: KeystorePath = None,
) -> None:
    """Make a new key: a phrase that every Substrate wallet understands. Without NAME or FILE it is only shown."""
    try:
        secret = Secret(new_phrase(words), scheme_of(scheme) or Scheme.ED25519)
    except ValueError as error:
        raise UserError(str(error)) from None
    advice = "Write the phrase down and show it to nobody: whoever has it has the account."
    if name is None and output is None:
        if not show_terminal(_phrase(secret)):
            raise UserError("there is no terminal to show the phrase at; give NAME, or -o FILE, to keep it in")
        _show(secret, 42)
        print(advice)
        return
    path = _place(name, output, keystore_path)
    _keep(secret, path, None if no_password else Passwords(password_filename, password_fd), memory)
    put(f"key        written to {path}", len("key        "))
    if show_terminal(_phrase(secret)):
        print(advice)
    _show_new(secret, name or str(path))


@app.command("import")
def import_key(
    name: Name = None,
    output: Output = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Account that a polkadot-js wallet exported; keeps its password."),
    ] = None,
    scheme: SchemeOption = None,
    no_password: NoPassword = False,
    session: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=SESSION_MAX, help="How often its session key was changed, as `list` says."
        ),
    ] = 0,
    memory: Memory = MODERATE_MIB,
    password_filename: PasswordFilename = None,
    password_fd: PasswordFd = None,
    keystore_path: KeystorePath = None,
) -> None:
    """Keep a key that you have: a phrase or 0x seed, asked for or from standard input, or a wallet's export."""
    path, passwords = _place(name, output, keystore_path), Passwords(password_filename, password_fd)
    if path.exists():
        raise KeyFileError(f"{path} exists already and is left as it is; choose another name")
    if json_file is not None and scheme is not None:
        raise UserError("--scheme: expected none beside --json, whose file says which account it is of")
    if json_file is None:
        secret = Secret(ask_secret(), scheme_of(scheme) or Scheme.ED25519, session)
        secret.keypair()  # Says what is wrong with it before a password is asked for.
        _keep(secret, path, None if no_password else passwords, memory)
    else:
        try:
            export = WalletExport.decode(_export_bytes(json_file))
            password = passwords.ask("Password of the export: ") if export.is_sealed else None
            secret = export.open(password)
        except KeyFileError as error:
            raise type(error)(f"{json_file}: {error}") from None
        if password is None and not no_password:
            password = passwords.ask("Password: ", twice=True)
        _write(replace(secret, session=session), path, None if no_password else password, memory)
    print(f"key               written to {path}")
    _show(secret, 42)


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, keystore_path: KeystorePath = None
) -> None:
    """Show the keys of the keystore; no password is needed."""
    keystore = keystore_at(keystore_path)
    keystore.check()
    rows, broken = [], []
    for name in keystore.names():
        try:
            found = read_key(keystore.file(name))
            if isinstance(found, Secret):
                found = KeyFile.of(found, None, created=datetime.now(UTC))
        except (KeyFileError, KeyUriError) as error:
            broken.append(str(error))
            continue
        rows.append(
            {
                "name": name,
                "scheme": found.scheme.name.lower(),
                "address": ss58.encode(found.public),
                "kind": found.kind,
                "sealed": found.lock is not None,
                "created": found.created,
                "session": found.session,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows and not broken:
        print(f"no keys in {keystore.path}; make one with: potchain key new NAME")
    else:
        width = max((len(str(row["name"])) for row in rows), default=4)
        for row in rows:
            how = str(row["kind"]) if row["sealed"] else f"{row['kind']}, no password"
            how += f", session key {row['session']}" if row["session"] else ""
            print(f"{row['name']:<{width}}  {row['scheme']:<7}  {row['address']}  {row['created']}  {how}")
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    if broken:
        raise typer.Exit(EXIT_FAILED)


@app.command()
@takes_key
def inspect(
    key: Annotated[KeySource, typer.Argument(metavar="KEY", help=f"{KEY_HELP[:-1]}; or an address.")],
    public: Annotated[bool, typer.Option("--public", help="KEY is a public key in hex.")] = False,
    prefix: Prefix = 42,
) -> None:
    """Show the addresses and public keys of a secret, a public key or an address."""
    text = key.text.strip()
    if public:
        try:
            account = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            account = b""
        if len(account) != ss58.ACCOUNT_BYTES:
            raise UserError(f"--public: expected 0x and 64 hex digits, got {text[:80]!r}")
        _show_account(account, prefix)
        return
    try:
        account = ss58.decode(text, None)
    except ss58.Ss58Error as mistyped:
        try:
            secret = key.open()
        except NoSuchKey:
            if ADDRESS.fullmatch(text):  # Nobody wants a key of that name.
                raise mistyped from None
            raise
        _show(secret, prefix)
        return
    print(f"network    {ss58.prefix_of(text)}")
    _show_account(account, prefix)


@app.command()
@takes_key
def export(
    key: Key,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to this new file.")
    ] = None,
    phrase: Annotated[bool, typer.Option("--phrase", help="Show the secret at the terminal instead.")] = False,
    scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="ed25519 or sr25519. [default: the key's own]")
    ] = None,
    prefix: Prefix = 42,
) -> None:
    """Write a key as a polkadot-js wallet imports it, under the password that it has."""
    if phrase == (output is not None):
        raise UserError("expected -o FILE, for a wallet, or --phrase, to see the secret; give one of them")
    secret, password = key.open_with_password()
    if phrase:
        if not show_terminal(f"secret            {secret.uri}\n"):
            raise UserError("there is no terminal to show the secret at; a file of it is made by -o FILE")
        return
    assert output is not None
    if password is None:
        password = key.passwords.ask("Password of the export: ", twice=True)
    keypair = secret.keypair(scheme_of(scheme))
    write_private(output, encode(keypair, password, key.name or "potchain", prefix, datetime.now(UTC)))
    print(f"{keypair.scheme.name.lower()} account {ss58.encode(keypair.public, prefix)} written to {output}")


@app.command()
@takes_key
def rotate(
    key: Key,
    new_password_filename: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the new password in its first line.")
    ] = None,
    new_password_fd: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=0, max=DESCRIPTOR_MAX, help="Open descriptor to read the new password from."
        ),
    ] = None,
    session: Annotated[
        bool,
        typer.Option("--session", help="Change the key that a validator votes with instead, as author_rotateKeys."),
    ] = False,
    memory: Memory = MODERATE_MIB,
) -> None:
    """Change the password of a key (copies of the old file still open with the old one), or its session key."""
    path = key.path()
    secret, password = key.open_with_password()
    found = read_key(path)
    if session:
        if not isinstance(found, KeyFile):
            raise KeyFileError(
                f"{path} is one line, which keeps no count: keep it with `potchain key import NAME` first"
            )
        secret = replace(secret, session=secret.session + 1)
        keys = ValidatorKeys.of(secret)
    else:
        password = Passwords(new_password_filename, new_password_fd).ask("New password: ", twice=True)
    created = datetime.fromisoformat(found.created) if isinstance(found, KeyFile) else datetime.now(UTC)
    made = KeyFile.of(secret, password, created=created, cost=cost_of(memory))
    write_private(path, made.encode(), over=True)
    if not session:
        print(f"{path} has a new password")
        return
    print(f"validator  BLS     0x{bls.public_key(keys.bls_secret).hex()} (session key {secret.session})")
    print("Start the node again, which votes with the old key until a set names the new one; then announce it:")
    print(f"  potchain validator set-keys --key {key.text}")


@app.command()
@takes_key
def sign(
    key: Key,
    message: MessageText = None,
    in_hex: Hex = False,
    raw: Raw = False,
    scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="ed25519 or sr25519. [default: the key's own]")
    ] = None,
) -> None:
    """Sign a message as wallets do, and print the signature."""
    if key.text == "-" and message is None:
        raise UserError("--message is missing: standard input is where the secret comes from")
    data = _message(message, in_hex)
    keypair = key.keypair(scheme_of(scheme))
    print(f"0x{keypair.sign(data.data if raw else data.wrapped).hex()}")


@app.command()
def verify(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Address of who is said to have signed, or 0x key.")
    ],
    signature: Annotated[str, typer.Argument(metavar="SIGNATURE", help="0x and 128 hex digits.")],
    message: MessageText = None,
    in_hex: Hex = False,
) -> None:
    """Say whether an account has signed a message, as it is or as wallets wrap it."""
    try:
        if address.startswith("0x"):
            public = bytes.fromhex(address[2:])
        else:
            public = ss58.decode(address, None)
        if len(public) != ss58.ACCOUNT_BYTES:
            raise ValueError
    except ValueError as error:
        if isinstance(error, ss58.Ss58Error):
            raise
        raise UserError(f"expected an address, or 0x and 64 hex digits, got {address[:80]!r}") from None
    try:
        signed = read_signature(signature)
    except SignatureError as error:
        raise UserError(str(error)) from None
    scheme = signed.scheme_of(public, _message(message, in_hex))
    if scheme is None:
        print(f"error: {address} has not signed this message with this signature", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"valid: {address} has signed this message ({scheme.name.lower()})")


def _message(text: str | None, in_hex: bool) -> Message:
    data = sys.stdin.buffer.read() if text is None else text.encode("utf-8", "surrogateescape")
    if not in_hex:
        return Message(data)
    try:
        return Message(bytes.fromhex(data.decode().strip().removeprefix("0x")))
    except ValueError:
        raise UserError("--hex: expected a message in hex, got something else") from None


def _place(name: str | None, output: Path | None, keystore_path: Path | None) -> Path:
    """Where a new key goes."""
    if (name is None) == (output is None):
        raise UserError("expected NAME, for a key in the keystore, or -o FILE; give one of them")
    if output is not None:
        return output
    keystore = keystore_at(keystore_path)
    assert name is not None
    path = keystore.file(name)
    keystore.make()
    return path


def _keep(secret: Secret, path: Path, passwords: Passwords | None, memory: int) -> None:
    if path.exists():
        raise KeyFileError(f"{path} exists already and is left as it is; choose another name")
    password = None if passwords is None else passwords.ask(f"Password for {path.name}: ", twice=True)
    _write(secret, path, password, memory)


def _write(secret: Secret, path: Path, password: str | None, memory: int) -> None:
    made = KeyFile.of(secret, password, created=datetime.now(UTC), cost=cost_of(memory))
    write_private(path, made.encode())


def cost_of(memory: int) -> Cost:
    """The cost of a password, by how many MiB of memory it takes."""
    return Cost(MODERATE.passes, memory * MIB)


def _export_bytes(path: Path) -> bytes:
    """A wallet's export, which browsers leave readable for others: it is sealed."""
    try:
        with path.open("rb") as file:
            data = file.read(EXPORT_BYTES_MAX + 1)
    except OSError as error:
        raise KeyFileError(f"cannot be read: {error.strerror}; give the path of a wallet's export") from None
    if len(data) > EXPORT_BYTES_MAX:
        raise KeyFileError(f"expected at most {EXPORT_BYTES_MAX:,} bytes, got more; it is something else")
    return data


def _phrase(secret: Secret) -> str:
    """The phrase on a line of its own: it is copied as one line, whatever the terminal's width."""
    return f"secret phrase\n{secret.uri}\n"


def _show_new(secret: Secret, key: str) -> None:
    """The addresses of a key that was made just now; `inspect` shows what else follows from it."""
    for scheme, keypair in secret.accounts().items():
        print(f"{scheme.name.lower():<10} address {ss58.encode(keypair.public)}")
    meant = "wallets show that of sr25519" if secret.scheme is Scheme.ED25519 else "wallets show it, too"
    put(f"Commands use its {secret.scheme.name.lower()} account; {meant}. More of it: potchain key inspect {key}")


def _show(secret: Secret, prefix: int) -> None:
    accounts = secret.accounts()
    for scheme, keypair in accounts.items():
        print(f"{scheme.name.lower():<10} address {ss58.encode(keypair.public, prefix)}")
        print(f"{'':<10} public  0x{keypair.public.hex()}")
    if Scheme.ED25519 not in accounts:
        return
    keys = ValidatorKeys.of(secret)
    print(f"validator  BLS     0x{bls.public_key(keys.bls_secret).hex()}")
    proof = bls.prove_possession(keys.bls_secret, keys.account.public)
    print(f"{'':<10} proof   0x{proof.hex()} (for the ed25519 account)")
    print(f"{'':<10} node    0x{keys.node.public.hex()}")


def _show_account(account: bytes, prefix: int) -> None:
    print(f"account    address {ss58.encode(account, prefix)}")
    print(f"{'':<10} public  0x{account.hex()}")
