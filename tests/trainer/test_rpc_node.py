"""What a participant makes of a node's answers about a round: a task that is over, and a node that lags behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chain.rpc.client import Client
from tests.rpc.kit import ALICE, served
from trainer.node import NodeError, RpcNode, TaskOver


async def test_a_task_is_over_where_a_node_knows_that_it_was_cancelled_and_not_where_it_lags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        node = RpcNode(client, ALICE)
        assert (await node.round(0)).phase == "idle"
        with pytest.raises(NodeError, match="no task 7: 1 were created"):
            await node.round(7)
        assert await node.transact("training.cancel_task", task=0) is None
        with pytest.raises(TaskOver, match="over before its first round"):
            await node.round(0)

        # The node that answers next is one for which it runs.
        ask = client.request

        async def ahead(method: str, *arguments: Any, **options: Any) -> Any:
            answer = await ask(method, *arguments, **options)
            return {**answer, "status": "active"} if method == "training_task" else answer

        monkeypatch.setattr(client, "request", ahead)
        with pytest.raises(NodeError):
            await node.round(0)
