"""This chain's runtime: which modules it is made of, under which indexes. An index is never given to another module."""

from __future__ import annotations

from typing import Final

from runtime.composition import Runtime, View
from runtime.modules.balances import Balances
from runtime.modules.multisig import Multisig
from runtime.modules.rewards import Rewards
from runtime.modules.sudo import Sudo
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.training import Training
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.utility import Utility
from runtime.modules.validators import Validators


class Potchain(View):
    """The modules over one state: `RUNTIME.at(state).balances.total_issuance.get()`."""

    system: System
    timestamp: Timestamp
    balances: Balances
    transaction_payment: TransactionPayment
    validators: Validators
    training: Training
    rewards: Rewards
    utility: Utility
    sudo: Sudo
    multisig: Multisig


RUNTIME: Final = Runtime(
    view=Potchain,
    spec_name="potchain",
    spec_version=1,
    transaction_version=1,
    modules={
        0: System,
        1: Timestamp,
        2: Balances,
        3: TransactionPayment,
        4: Validators,
        5: Training,
        6: Rewards,
        7: Utility,
        8: Sudo,
        9: Multisig,
    },
)
