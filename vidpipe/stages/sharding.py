"""Cutting work into shards: by cost, never one task an item, at most 500 a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

MAX_SHARDS = 500  # Airflow maps at most 1,024 tasks, and its scheduler slows long before


def cut_shards(
    items: Sequence[dict[str, Any]],
    *,
    cost: Callable[[dict[str, Any]], float],
    shard_cost: float,
    together: Callable[[dict[str, Any]], Hashable] | None = None,
    max_shards: int = MAX_SHARDS,
) -> list[list[dict[str, Any]]]:
    """Cuts items into shards of about equal cost, keeping their order.

    Args:
        items: What is to be done, most urgent first.
        cost: Cost of an item, above zero.
        shard_cost: Cost that a shard should have; less where all come out equal by that, more
            where there would be too many.
        together: Items of one value go to one shard, that of the first of them.
        max_shards: The most shards there may be.

    Returns:
        Shards that hold every item once.
    """
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for number, item in enumerate(items):
        groups.setdefault(together(item) if together else number, []).append(item)
    costs = [sum(map(cost, group)) for group in groups.values()]
    total = math.fsum(costs)
    number_of_shards = min(max_shards, math.ceil(total / shard_cost - 1e-9))
    shards: list[list[dict[str, Any]]] = []
    begun, last = 0.0, -1
    for group, group_cost in zip(groups.values(), costs, strict=True):
        # By the middle of the group: a line of equal shards is laid over the line of all groups.
        number = int((begun + group_cost / 2) / total * number_of_shards)
        if number != last:
            shards.append([])
        shards[-1] += group
        begun, last = begun + group_cost, number
    return shards
