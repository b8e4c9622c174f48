"""The cache against the order of use, written out."""

from streamvis.models.inference.plan_cache import MOST_SIZES, PlanCache


def test_the_least_recently_used_plan_is_dropped():
    cache: PlanCache[int, str] = PlanCache()
    built = []

    def get(key: int) -> str:
        return cache.get(key, lambda: built.append(key) or f"plan {key}")

    sizes = [*range(MOST_SIZES), 0, MOST_SIZES, 0, 1]
    assert [get(size) for size in sizes] == [f"plan {size}" for size in sizes]
    assert built == [*range(MOST_SIZES), MOST_SIZES, 1]  # 1 was dropped for the new size
    assert len(cache.plans) == MOST_SIZES
