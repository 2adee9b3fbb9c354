"""Why a light client believes a node no further: it showed something untrue, withholds something, or is behind."""

from __future__ import annotations


class LightError(Exception):
    """The light client has no answer that it could vouch for; the message says why."""


class Untrue(LightError):
    """The node's answer contradicts what is proven: it lies, is broken, or follows another chain."""


class Withheld(LightError):
    """The node does not give what is needed to check it."""


class Stale(LightError):
    """What the node shows may have been true, and is too old to be believed of now."""


class Contradicted(Untrue):
    """The node's answer contradicts the block that is known to be final."""


class Behind(Stale):
    """The node's newest block is before the one that is known to be final."""


class Fork(LightError):
    """Validators have sealed two chains: more than a third of a set is dishonest, or its keys were stolen."""


class Unprovable(LightError):
    """What is asked for has no proof that a node could give."""


class CheckpointError(ValueError):
    """The checkpoint cannot be used; the message says what to do instead."""
