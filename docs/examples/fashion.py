"""A convolutional network that tells ten kinds of clothes apart, on Fashion-MNIST (Debian: dataset-fashion-mnist)."""

import gzip
import os
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from trainer.task import Task

FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
CLASSES = 10


class Network(nn.Module):
    # No kinks (relu, a maximum): over many local steps honest machines would go different ways at them.
    @nn.compact
    def __call__(self, images):  # u8[batch, 28, 28]
        x = images.astype(jnp.float32)[..., None] / 255
        for features in (16, 32):
            x = nn.gelu(nn.GroupNorm(num_groups=4)(nn.Conv(features, (3, 3))(x)))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.gelu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(CLASSES)(x)


network = Network()


def losses(logits, labels):
    return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, CLASSES)).sum(-1)


def loss(params, images, labels):
    return losses(network.apply(params, images), labels).mean()


def evaluation(params, images, labels):
    logits = network.apply(params, images)
    return losses(logits, labels).sum(), (logits.argmax(-1) == labels).sum()


def read(name):
    """An array of u8 in the IDX format: a magic number that ends with the rank, the shape, the numbers."""
    data = gzip.decompress((FOLDER / f"{name}-ubyte.gz").read_bytes())
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def make(train, held_out):
    params = network.init(jax.random.key(0), jnp.zeros((1, 28, 28), jnp.uint8))
    return Task("fashion", loss, evaluation, params, train=train, held_out=held_out, batch=64)


def task():
    train = read("train-images-idx3"), read("train-labels-idx1")
    test = read("t10k-images-idx3"), read("t10k-labels-idx1")
    return make(train, (test[0][:2_000], test[1][:2_000]))
