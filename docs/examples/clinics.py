"""Six kinds of patients, told apart by what three clinics know together; each has seen two kinds, and shows none.

`python docs/examples/clinics.py` writes the three clinics' files. Only the rows that are held out leave this machine.
"""

import jax
import jax.numpy as jnp
import numpy as np

from trainer.task import Task

KINDS, MEASURED = 6, 8
centres = np.random.default_rng(0).normal(0, 1, (KINDS, MEASURED))


def patients(seed, kinds, count):
    rng = np.random.default_rng(seed)
    y = rng.choice(np.array(kinds, np.int32), count)
    return (centres[y] + rng.normal(0, 0.5, (count, MEASURED))).astype(np.float32), y


params = {"w": jnp.zeros((MEASURED, KINDS)), "b": jnp.zeros(KINDS)}


def losses(params, x, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(x @ params["w"] + params["b"]), y[:, None], axis=1)[:, 0]


def loss(params, x, y):
    return losses(params, x, y).mean()


def evaluation(params, x, y):
    return losses(params, x, y).sum(), ((x @ params["w"] + params["b"]).argmax(1) == y).sum()


task = Task(
    "clinics",
    loss,
    evaluation,
    params,
    train=None,
    held_out=patients(1, range(KINDS), 512),
    batch=32,
    terms={
        "rounds": 60,
        "slots": 3,
        "local_steps": 8,
        "inner_optimizer": "sgd",
        "inner_learning_rate": 0.1,
        "inner_momentum": 0,
        "verification": "scored",
        "silos_min": 3,
    },
)

if __name__ == "__main__":
    for clinic in range(3):
        x, y = patients(2 + clinic, [2 * clinic, 2 * clinic + 1], 400 + 100 * clinic)
        np.savez(f"clinic{clinic}.npz", x=x, y=y)
        print(f"clinic{clinic}.npz: {len(y)} patients")
