"""@polkadot/keyring, unmodified, beside `potchain key`: same accounts, each other's files, each other's signatures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chain.message import Message, read_signature
from chain.primitives import ss58
from chain.primitives.keys import PHRASE_WORDS, Keypair, KeyUriError, Scheme, Secret, new_phrase
from chain.wallet_json import WalletExport, encode
from tests.clients.kit import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("npm")]

MESSAGE = "Ship it, Zoë"
PASSWORD = "correct horse, Zoë"
SEED = "0xfac7959dbfe72f052e5a0c3c8d6530f202b02fd8f9f5ca3580ec8deb7797479e"
PATHS = (
    *("", "//hard", "//hard//er", "//0", "//007", "//18446744073709551", "//Zoë", "//Zo\u0065\u0308"),
    *("//" + "x" * 31, "//" + "x" * 32, "//a longer junction than fits into thirty-two bytes", "//hard///pass//word"),
    *("///pass", "///Zoë", "//Alice//stash///", "/soft", "/soft//hard", "//hard/soft/2", "/1///pass", "/" + "y" * 40),
)


def address_of(uri: str, scheme: Scheme) -> str | None:
    try:
        return ss58.encode(Keypair.from_uri(uri, scheme).public)
    except KeyUriError:
        return None


def test_a_wallet_has_the_same_accounts_takes_our_exports_and_gives_us_its_own(tmp_path: Path) -> None:
    phrases = [new_phrase(words) for words in PHRASE_WORDS]
    uris = [(phrases[0] + path, scheme) for path in PATHS for scheme in Scheme]
    uris += [(phrase + path, scheme) for phrase in phrases[1:] for path in ("", "//a/b///c") for scheme in Scheme]
    uris += [(SEED + path, scheme) for path in ("", "//hard", "//a//b") for scheme in Scheme]
    uris += [(f"//{name}", scheme) for name in ("Alice", "Alice//stash", "Bob/1") for scheme in Scheme]
    ours = [
        Secret(phrases[0], Scheme.ED25519),
        Secret(f"{phrases[1]}//hard/soft///pass", Scheme.SR25519),
    ]
    theirs = [
        (f"{phrases[2]}//a/b///p", Scheme.SR25519, PASSWORD),
        (f"{phrases[3]}//plain", Scheme.ED25519, ""),
    ]
    exports = [
        encode(secret.keypair(), PASSWORD, f"key {number}", 42, datetime(2026, 11, 26, tzinfo=UTC))
        for number, secret in enumerate(ours)
    ]
    message = Message(MESSAGE.encode())
    signatures = [
        (f"0x{secret.keypair().sign(data).hex()}", ss58.encode(secret.keypair().public))
        for secret in ours
        for data in (message.data, message.wrapped)
    ]
    (tmp_path / "asked").write_text(
        json.dumps(
            {
                "uris": [(uri, scheme.name.lower()) for uri, scheme in uris],
                "message": MESSAGE,
                "exports": [{"json": json.loads(export), "password": PASSWORD} for export in exports],
                "signatures": signatures,
                "own": [
                    (uri, scheme.name.lower(), password, str(tmp_path / str(number)))
                    for number, (uri, scheme, password) in enumerate(theirs)
                ],
            }
        )
    )
    told = run("keys.mjs", str(tmp_path / "asked"))

    for (uri, scheme), address in zip(uris, told["addresses"], strict=True):
        assert address_of(uri, scheme) == (None if address.startswith("error: ") else address), (uri, scheme)
    assert sum(address.startswith("error: ") for address in told["addresses"]) == 5 + 4 + 1  # soft ed25519

    for number, (secret, imported) in enumerate(zip(ours, told["imported"], strict=True)):
        address, kind, name, signature = imported
        assert (address, kind, name) == (
            *(ss58.encode(secret.keypair().public), secret.scheme.name.lower()),
            f"key {number}",
        )
        assert read_signature(signature).scheme_of(secret.keypair().public, message) is secret.scheme
    assert told["verified"] == [[True, secret.scheme.name.lower()] for secret in ours for _ in ("bare", "wrapped")]

    for number, ((uri, scheme, password), (address, *signed)) in enumerate(zip(theirs, told["made"], strict=True)):
        export = WalletExport.decode((tmp_path / str(number)).read_bytes())
        assert export.is_sealed == bool(password)
        secret = export.open(password)
        assert secret.scheme is scheme
        assert ss58.encode(secret.keypair().public) == address == address_of(uri, scheme)
        assert [read_signature(each).scheme for each in signed] == [None, scheme]
        for each in signed:
            assert read_signature(each).scheme_of(secret.keypair().public, message) is scheme
            assert read_signature(each).scheme_of(secret.keypair().public, Message(b"another")) is None
