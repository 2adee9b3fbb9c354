"""The chain's runtime: what every node needs, and Fragile. An index is never given to another module."""

from __future__ import annotations

from typing import Final

from fragile_chain.fragile import Fragile
from runtime.composition import Runtime, View
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import Validators


class FragileChain(View):
    """The modules over one state: `RUNTIME.at(state).fragile.count.get()`."""

    system: System
    timestamp: Timestamp
    balances: Balances
    transaction_payment: TransactionPayment
    validators: Validators
    fragile: Fragile


RUNTIME: Final = Runtime(
    view=FragileChain,
    spec_name="fragile",
    spec_version=1,
    transaction_version=1,
    modules={
        0: System,
        1: Timestamp,
        2: Balances,
        3: TransactionPayment,
        4: Validators,
        10: Fragile,
    },
)
