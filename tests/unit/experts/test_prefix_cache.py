"""The tree of known blocks: one for each beginning, whoever computed it, and none below one that is gone."""

from coe.experts.prefix_cache import PrefixCache


def test_the_first_to_make_a_block_known_keeps_it() -> None:
    """Both began alike at once: the second computed it in a block of its own, which is free when it ends."""
    cache = PrefixCache(2)
    first = cache.publish([], [1, 2, 3, 4, 5], [10, 11, 12])
    assert [cached.block for cached in first] == [10, 11]
    second = cache.publish([], [1, 2, 7, 8], [20, 21])
    assert second == []
    assert cache.adopt(second, [1, 2, 7, 8], [20, 21]) == [20]
    assert cache.adopt(first, [1, 2, 3, 4, 5], [10, 11, 12]) == [12]
    assert len(cache) == 3
    assert [cached.block for cached in cache.match([1, 2, 7, 8, 9])] == [10, 21]


def test_what_is_forgotten_takes_along_what_follows_it() -> None:
    cache = PrefixCache(2)
    first = cache.publish([], [1, 2], [10])
    longer = cache.match([1, 2, 3, 4, 5])
    assert cache.adopt(longer, [1, 2, 3, 4], [10, 11]) == []
    assert sorted(cache.forget(first)) == [10, 11]
    assert len(cache) == 0
    assert cache.match([1, 2, 3, 4, 5]) == []
    assert cache.evict() is None


def test_what_others_use_is_not_forgotten() -> None:
    cache = PrefixCache(2)
    first = cache.publish([], [1, 2, 3, 4], [10, 11])
    other = cache.match([1, 2, 9])
    assert cache.forget(first) == [11]
    cache.unuse(other)
    assert cache.evict() == 10


def test_what_is_in_use_gives_no_way() -> None:
    cache = PrefixCache(2)
    assert cache.adopt([], [1, 2, 3, 4], [10, 11]) == []
    one, two = cache.match([1, 2, 3, 4, 5]), cache.match([1, 2, 3, 4, 6])
    assert cache.evict() is None
    cache.unuse(one)
    assert cache.evict() is None
    cache.unuse(two)
    assert [cache.evict() for _ in range(3)] == [11, 10, None]


def test_a_past_that_grew_gives_way_from_its_end() -> None:
    cache = PrefixCache(2)
    assert cache.adopt([], [1, 2], [10]) == []
    path = cache.match([1, 2, 3, 4])
    assert cache.adopt(path, [1, 2, 3, 4], [10, 11]) == []
    assert [cached.block for cached in path] == [10]
    assert [cache.evict() for _ in range(3)] == [11, 10, None]
