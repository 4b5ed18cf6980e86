"""Shards hold every item once, in order, bounded in number and in cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vidpipe.stages.sharding import cut_shards

COSTS = st.lists(st.integers(1, 1000), max_size=300)


def items_of(costs: list[int]) -> list[dict]:
    return [{"item": str(number), "cost": cost} for number, cost in enumerate(costs)]


@given(COSTS, st.integers(1, 3000), st.integers(1, 50))
def test_every_item_is_in_one_shard_in_order(costs, shard_cost, max_shards):
    items = items_of(costs)
    shards = cut_shards(
        items, cost=lambda i: i["cost"], shard_cost=shard_cost, max_shards=max_shards
    )
    assert [item for shard in shards for item in shard] == items
    assert all(shards)
    assert len(shards) <= max_shards


@given(st.lists(st.integers(1, 10), min_size=1, max_size=300), st.integers(1, 20))
def test_small_items_fill_as_many_shards_as_were_asked_for(costs, wanted):
    shards = cut_shards(items_of(costs), cost=lambda i: i["cost"], shard_cost=sum(costs) / wanted)
    # One more would run alone at the end, while the other workers wait.
    assert len(shards) <= wanted


@given(COSTS, st.integers(1, 3000))
def test_no_shard_costs_much_more_than_it_should(costs, shard_cost):
    shards = cut_shards(items_of(costs), cost=lambda i: i["cost"], shard_cost=shard_cost)
    target = max(shard_cost, sum(costs) / 500)
    for shard in shards:
        # The last item of a shard may stand out of it by half.
        assert sum(item["cost"] for item in shard[:-1]) <= target + 1000
        assert sum(item["cost"] for item in shard) <= target + max(i["cost"] for i in shard)


@given(st.lists(st.integers(1, 5), max_size=100), st.integers(1, 20))
def test_items_of_one_value_meet_in_one_shard(costs, shard_cost):
    items = items_of(costs)
    shards = cut_shards(
        items, cost=lambda i: i["cost"], shard_cost=shard_cost, together=lambda i: i["cost"]
    )
    for value in set(costs):
        assert sum(any(item["cost"] == value for item in shard) for shard in shards) == 1
    assert sorted(i["item"] for shard in shards for i in shard) == sorted(i["item"] for i in items)
