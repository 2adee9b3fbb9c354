"""A transformer of a million parameters that tells the next letter of the King James Bible (Debian: bible-kjv-text)."""

import os
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from trainer.task import Task, samples

FILE = Path(os.environ.get("BIBLE_DATA", "/usr/lib/bible.data"))
LENGTH = 128  # characters that are looked at to tell the next
WIDTH, HEADS, LAYERS = 128, 4, 5
CHARACTERS = 128  # ASCII


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.before_attention = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.before_thought = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.wide = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.narrow = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.before_attention(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.before_thought(x))))


class Network(nnx.Module):
    def __init__(self, rngs):
        self.characters = nnx.Embed(CHARACTERS, WIDTH, rngs=rngs)
        self.places = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.layers = nnx.List([Layer(rngs) for _ in range(LAYERS)])
        self.last = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.logits = nnx.Linear(WIDTH, CHARACTERS, rngs=rngs)

    def __call__(self, text):  # u8[batch, LENGTH]
        x = self.characters(text.astype(jnp.int32)) + self.places(jnp.arange(LENGTH))
        mask = nnx.make_causal_mask(text)
        for layer in self.layers:
            x = layer(x, mask)
        return self.logits(self.last(x))


# Parameters are what is trained; the rest is how the network is built.
graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)


def logits_of(params, text):
    return nnx.merge(graph, params, rest)(text)


def losses(logits, following):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), following.astype(jnp.int32)[..., None], -1)


def loss(params, text, following):
    return losses(logits_of(params, text), following).mean()


def evaluation(params, text, following):
    """Per text: the mean loss of its letters, and whether the last letter, which sees the most, is told."""
    logits = logits_of(params, text)
    right = logits[:, -1].argmax(-1) == following[:, -1]
    return losses(logits, following).mean((1, 2)).sum(), right.sum()


def read():
    """The text, which the package has in pieces of 64 KiB, compressed as by `compress`, behind a table of offsets."""
    data = FILE.read_bytes()
    (count,) = struct.unpack_from(">I", data, 0x58)
    starts = [*struct.unpack_from(f">{count}I", data, 0x5C), len(data)]
    pieces = (b"\x1f\x9d\x90" + data[start:end] for start, end in pairwise(starts))
    return b"".join(subprocess.run(["gzip", "-dc"], input=piece, stdout=-1, check=True).stdout for piece in pieces)


def excerpts(text):
    """Every LENGTH characters, and the same moved on by one: what is to be told."""
    codes = np.frombuffer(text, np.uint8)
    for start in range(0, len(codes) - LENGTH, LENGTH):
        yield codes[start : start + LENGTH], codes[start + 1 : start + LENGTH + 1]


def make(train, held_out):
    return Task("bible", loss, evaluation, params, train=train, held_out=held_out, batch=16, evaluate_batch=64)


def task():
    text = read()
    middle = len(text) * 9 // 10
    return make(samples(excerpts(text[:middle]), 30_000), samples(excerpts(text[middle:]), 512))
