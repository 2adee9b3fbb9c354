"""What a state says to whoever goes on from it: which validators decide the next block, when it was, on which chain."""

from __future__ import annotations

from typing import Any

from runtime.composition import Runtime
from runtime.framework import EventLog
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.validators import Validators
from runtime.state import DictState, Overlay


def handover_keys(runtime: Runtime[Any]) -> list[bytes]:
    """The storage keys whose proof hands over from a validator set to the next, whose number comes first.

    A proof is of keys in an order: whoever keeps one and whoever checks it have this one.
    """
    view = runtime.over(Overlay(DictState()), EventLog())
    validators, timestamp, system = view.module(Validators), view.module(Timestamp), view.module(System)
    return [validators.set_id.key, validators.authorities.key, timestamp.now.key, system.block_hash.key(0)]
