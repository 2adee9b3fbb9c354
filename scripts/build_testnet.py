"""Writes genesis/testnet.json: development keys, their balances, and the digits task that `build_digits.py` made.

The file is a function of this script and of genesis/digits/task.json: running it again changes nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from chain.development import ACCOUNTS, address, authority, endowed, processes
from runtime.modules.balances import POT
from runtime.modules.system import SS58_PREFIX

GENESIS = Path(__file__).resolve().parent.parent / "genesis"
PICO = 10**12

VALIDATORS = ACCOUNTS[:4]
WORKERS = ACCOUNTS[4:]
AGGREGATORS = ("Aggregator",)


def storage(digits: dict[str, Any]) -> dict[str, int]:
    """How long the task's blobs are."""
    sizes = {root: (GENESIS / "blobs" / root).stat().st_size for root in digits["blobs"]}
    program, params = (sizes.pop(digits[field].removeprefix("0x")) for field in ("programRoot", "paramsRoot"))
    return {"programBytes": program, "datasetBytes": sum(sizes.values()), "parameters": params // 4}


def testnet() -> dict[str, object]:
    """The whole file."""
    digits = json.loads((GENESIS / "digits" / "task.json").read_text())
    balances = endowed() + [(address(name), 1_000 * POT) for name in AGGREGATORS]
    return {
        "name": "Potchain Testnet",
        "id": "potchain_testnet",
        "chainType": "Local",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": SS58_PREFIX},
        "consensus": {"blockTimeMs": 1000, "timeoutMs": 2000, "timeoutMsMax": 16000},
        "bootnodes": [f"127.0.0.1:{30333 + i}" for i in range(len(VALIDATORS))],
        "blobs": "blobs",
        "development": {
            "validators": processes(VALIDATORS),
            "workers": processes(WORKERS),
            "aggregators": processes(AGGREGATORS),
        },
        "genesis": {
            "balances": {"balances": balances},
            "sudo": {"key": address("Alice")},
            # Sessions of a minute, and an hour until a bond is free: a tester waits for what takes a week elsewhere.
            "validators": {
                "authorities": [authority(name) for name in VALIDATORS],
                "sessionBlocks": 60,
                "unbondingSessions": 60,
            },
            "training": {
                "tasks": [
                    {
                        "owner": address("Alice"),
                        "name": "digits",
                        **{field: digits[field] for field in ("programRoot", "datasetRoot", "paramsRoot")},
                        "optimizer": {
                            "rule": {
                                "adam": {
                                    "learningRate": 2 * PICO // 100,
                                    "beta1": 9 * PICO // 10,
                                    "beta2": 999 * PICO // 1000,
                                    "epsilon": PICO // 10**8,
                                }
                            }
                        },
                        "policy": {
                            "slots": 4,
                            "commitBlocks": 10,
                            "revealBlocks": 10,
                            "auditBlocks": 20,
                            "auditorsPerSlot": 1,
                            "auditedPpm": 250_000,
                            "toleranceMicroSteps": 510_000,
                            "outliersPpm": 20,
                            "evaluateRounds": 1,
                        },
                        "rounds": 200,
                        "pricePerSlot": POT,
                        "storage": storage(digits),
                    }
                ]
            },
        },
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    (GENESIS / "testnet.json").write_text(json.dumps(testnet(), indent=2) + "\n")
