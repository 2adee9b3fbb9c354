"""Digits in Flower: four clients, one batch of 256 a round, FedAvg; run by flower.py with a Python that has `flwr`.

The model's arithmetic is numpy's: only Flower itself is installed there, and a round's batches take milliseconds.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from flwr.client import ClientApp, NumPyClient  # type: ignore[import-not-found]
from flwr.common import Context, ndarrays_to_parameters  # type: ignore[import-not-found]
from flwr.server import ServerApp, ServerAppComponents, ServerConfig  # type: ignore[import-not-found]
from flwr.server.strategy import FedAvg  # type: ignore[import-not-found]
from flwr.simulation import run_simulation  # type: ignore[import-not-found]

CLIENTS = 4
BATCH = 256
HIDDEN = 256
CLASSES = 10
RATE = 0.3

Arrays = list[Any]


def forward(params: Arrays, x: Any) -> tuple[Any, Any]:
    """Hidden values and logits of rows."""
    hidden = np.maximum(x @ params[0] + params[1], 0)
    return hidden, hidden @ params[2] + params[3]


def softmax(logits: Any) -> Any:
    """Probabilities of logits, row by row."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def stepped(params: Arrays, x: Any, y: Any) -> Arrays:
    """The parameters after one step of gradient descent on a batch."""
    hidden, logits = forward(params, x)
    error = softmax(logits)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    back = (error @ params[2].T) * (hidden > 0)
    gradient = [x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
    return [p - np.float32(RATE) * g for p, g in zip(params, gradient, strict=True)]


def main() -> None:
    """Run the rounds, and print what each took as JSON."""
    data, rounds = np.load(sys.argv[1]), int(sys.argv[2])
    x, y = (data["x"] / 16).astype(np.float32), data["y"].astype(np.int64)
    held_x, held_y = (data["held_x"] / 16).astype(np.float32), data["held_y"].astype(np.int64)
    rng = np.random.default_rng(0)
    start = [
        (rng.standard_normal((64, HIDDEN)) / 8).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        (rng.standard_normal((HIDDEN, CLASSES)) / 16).astype(np.float32),
        np.zeros(CLASSES, np.float32),
    ]
    ends: list[float] = []
    accuracies: list[float] = []

    class Client(NumPyClient):  # type: ignore[misc]
        def __init__(self, number: int) -> None:
            self._number = number

        def fit(self, parameters: Arrays, config: dict[str, Any]) -> tuple[Arrays, int, dict[str, Any]]:
            order = np.random.default_rng(config["round"]).permutation(len(x))
            rows = order[self._number * BATCH : (self._number + 1) * BATCH]
            return stepped(parameters, x[rows], y[rows]), BATCH, {}

    def client(context: Context) -> Any:
        return Client(int(context.node_config["partition-id"])).to_client()

    def evaluated(_round: int, parameters: Arrays, _config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        _, logits = forward(parameters, held_x)
        chosen = softmax(logits)[np.arange(len(held_y)), held_y]
        ends.append(time.monotonic())
        accuracies.append(float((logits.argmax(axis=1) == held_y).mean()))
        return float(-np.log(chosen).mean()), {}

    def server(_context: Context) -> Any:
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_available_clients=CLIENTS,
            initial_parameters=ndarrays_to_parameters(start),
            evaluate_fn=evaluated,
            on_fit_config_fn=lambda number: {"round": number},
        )
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))

    logging.disable(logging.WARNING)
    run_simulation(ServerApp(server_fn=server), ClientApp(client_fn=client), num_supernodes=CLIENTS)
    print(json.dumps({"version": version("flwr"), "seconds": np.diff(ends).tolist(), "accuracy": accuracies[-1]}))


if __name__ == "__main__":
    main()
