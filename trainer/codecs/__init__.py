"""The update codecs: a closed set, each with `take`, `quantise`, `give`, `bytes_max` and `decode`.

Rule: whoever has a slot's gradients and the updates that were revealed for them knows what its next update says:

    taken = codec.take(memory, gradient)
    update = codec.quantise(taken.meant, round_index)
    memory = codec.give(taken, update)
"""

from __future__ import annotations

from trainer.codecs.dense import Dense
from trainer.codecs.topk import TopK

INT8 = Dense(8)
INT16 = Dense(16)

Codec = Dense | TopK
