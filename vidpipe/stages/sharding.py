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
        shard_cost: Cost that a shard should have; more where there would be too many shards.
        together: Items of one value go to one shard, that of the first of them.
        max_shards: The most shards there may be.

    Returns:
        Shards that hold every item once.
    """
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for number, item in enumerate(items):
        groups.setdefault(together(item) if together else number, []).append(item)
    costs = [sum(map(cost, group)) for group in groups.values()]
    target = max(shard_cost, math.fsum(costs) / max_shards)
    shards: list[list[dict[str, Any]]] = []
    filled = target
    for group, group_cost in zip(groups.values(), costs, strict=True):
        if filled + group_cost / 2 > target and len(shards) < max_shards:
            shards.append([])
            filled = 0.0
        shards[-1] += group
        filled += group_cost
    return shards
