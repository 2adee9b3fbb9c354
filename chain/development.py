"""What a genesis file says of development keys: accounts that everybody knows, and validators that one machine can run.

Everything is a function of the names, so that a file that is written again does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chain.primitives import bls, ss58
from chain.primitives.keys import Keypair, Scheme
from chain.validator_keys import ValidatorKeys
from runtime.modules.balances import POT
from runtime.modules.system import SS58_PREFIX

ACCOUNTS: Final = ("Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie")  # Substrate's well-known ones
ENDOWMENT: Final = 1_000_000 * POT


def address(name: str, scheme: Scheme = Scheme.ED25519) -> str:
    """The address of a development account, in the scheme of this project's tools or in that of wallets (sr25519)."""
    return ss58.encode(Keypair.from_uri(f"//{name}", scheme).public, SS58_PREFIX)


def endowed() -> list[tuple[str, int]]:
    """The balances of the development accounts, in both schemes."""
    return [(address(name, scheme), ENDOWMENT) for scheme in Scheme for name in ACCOUNTS]


def authority(name: str) -> dict[str, str]:
    """A validator as the genesis part of the file names it."""
    keys = ValidatorKeys.from_uri(f"//{name}")
    return {
        "account": ss58.encode(keys.account.public, SS58_PREFIX),
        "bls": "0x" + bls.public_key(keys.bls_secret).hex(),
        "proof": "0x" + bls.prove_possession(keys.bls_secret, keys.account.public).hex(),
    }


def processes(names: Sequence[str]) -> list[dict[str, str]]:
    """Processes and the secrets of their keys, as the development part of the file names them."""
    return [{"name": name.lower(), "key": f"//{name}"} for name in names]


def one_machine_chain(name: str, id: str, runtime: str) -> dict[str, object]:
    """A whole genesis file: one validator, Alice, and the development accounts, on a runtime named MODULE:NAME."""
    return {
        "name": name,
        "id": id,
        "chainType": "Development",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": SS58_PREFIX},
        "consensus": {"blockTimeMs": 1000, "timeoutMs": 2000, "timeoutMsMax": 16000},
        "development": {"validators": processes(ACCOUNTS[:1])},
        "runtime": runtime,
        "genesis": {
            "balances": {"balances": endowed()},
            "validators": {"authorities": [authority(ACCOUNTS[0])]},
        },
    }
