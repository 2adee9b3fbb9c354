"""The arrays that modules of the trainer hand to each other, and how many numbers one holds at most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int8s = npt.NDArray[np.int8]
Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

# 128 million parameters: what one machine's memory holds together with the optimiser's moments.
PARAMETERS_MAX = 1 << 27
