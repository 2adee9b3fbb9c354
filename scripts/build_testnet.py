"""Writes genesis/testnet.json: development keys, their balances, and the digits task that `build_digits.py` made.

The file is a function of this script and of genesis/digits/task.json: running it again changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from chain.primitives import bls, ss58
from chain.primitives.keys import Keypair, Scheme
from chain.validator_keys import ValidatorKeys

GENESIS = Path(__file__).resolve().parent.parent / "genesis"
PREFIX = 42
POT = 10**12
PICO = 10**12

ACCOUNTS = ("Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie")
VALIDATORS = ("Alice", "Bob", "Charlie", "Dave")
WORKERS = ("Eve", "Ferdie")
AGGREGATORS = ("Aggregator",)


def address(name: str, scheme: Scheme = Scheme.ED25519) -> str:
    """The development account of that name."""
    return ss58.encode(Keypair.from_uri(f"//{name}", scheme).public, PREFIX)


def authority(name: str) -> dict[str, str]:
    """A validator as the genesis file names it."""
    keys = ValidatorKeys.from_uri(f"//{name}")
    return {
        "account": ss58.encode(keys.account.public, PREFIX),
        "bls": "0x" + bls.public_key(keys.bls_secret).hex(),
        "proof": "0x" + bls.prove_possession(keys.bls_secret).hex(),
    }


def development(names: tuple[str, ...]) -> list[dict[str, str]]:
    """Processes and the secrets of their keys."""
    return [{"name": name.lower(), "key": f"//{name}"} for name in names]


def testnet() -> dict[str, object]:
    """The whole file."""
    digits = json.loads((GENESIS / "digits" / "task.json").read_text())
    endowed = [(address(name, scheme), 1_000_000 * POT) for scheme in Scheme for name in ACCOUNTS]
    endowed += [(address(name), 1_000 * POT) for name in AGGREGATORS]
    return {
        "name": "Potchain Testnet",
        "id": "potchain_testnet",
        "chainType": "Local",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": PREFIX},
        "consensus": {"blockTimeMs": 1000, "timeoutMs": 2000, "timeoutMsMax": 16000},
        "bootnodes": [f"127.0.0.1:{30333 + i}" for i in range(len(VALIDATORS))],
        "blobs": "blobs",
        "development": {
            "validators": development(VALIDATORS),
            "workers": development(WORKERS),
            "aggregators": development(AGGREGATORS),
        },
        "genesis": {
            "balances": {"balances": endowed},
            "validators": {"authorities": [authority(name) for name in VALIDATORS]},
            "training": {
                "tasks": [
                    {
                        "owner": address("Alice"),
                        "name": "digits",
                        **{field: digits[field] for field in ("programRoot", "datasetRoot", "paramsRoot")},
                        "optimizer": {
                            "adam": {
                                "learningRate": 2 * PICO // 100,
                                "beta1": 9 * PICO // 10,
                                "beta2": 999 * PICO // 1000,
                                "epsilon": PICO // 10**8,
                            }
                        },
                        "policy": {
                            "slots": 4,
                            "commitBlocks": 10,
                            "revealBlocks": 10,
                            "auditBlocks": 20,
                            "auditorsPerSlot": 2,
                            "toleranceMicroSteps": 510_000,
                            "outliersPpm": 20,
                        },
                        "rounds": 200,
                        "pricePerSlot": POT,
                    }
                ]
            },
        },
    }


if __name__ == "__main__":
    (GENESIS / "testnet.json").write_text(json.dumps(testnet(), indent=2) + "\n")
