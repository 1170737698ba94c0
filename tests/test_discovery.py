"""classifier/discovery.py: wordings that accounts share, and how they are ranked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from classifier.discovery import Context, Facets, Shared, Sightings, facets_of, find_shared, ranked

TEMPLATE, OTHER = range(1_000, 1_030), range(2_000, 2_012)
DAY = 86_400_000_000


def sightings(prompts: list[tuple[int, list[int]]]) -> Sightings:
    """Of (account, shingles) of each prompt."""
    prompt = np.repeat(np.arange(len(prompts)), [len(set(shingles)) for _, shingles in prompts])
    shingle = np.concatenate([np.array(sorted(set(shingles)), np.uint64) for _, shingles in prompts])
    return Sightings(prompt, shingle, np.array([account for account, _ in prompts]))


def noise(number: int) -> list[int]:
    """Ten shingles that no other prompt has."""
    return list(range(10_000 + 10 * number, 10_010 + 10 * number))


def traffic(template: range, accounts: int, first: int = 0) -> list[tuple[int, list[int]]]:
    """Each account sends two prompts of a template and one of its own."""
    return [
        (account, [*(template if turn < 2 else ()), *noise(first + 3 * account + turn)])
        for account in range(accounts)
        for turn in range(3)
    ]


def test_a_shared_wording_is_found_whole_and_with_all_its_prompts() -> None:
    (found,) = find_shared(sightings(traffic(TEMPLATE, 6)))
    assert found.shingles.tolist() == list(TEMPLATE)
    assert found.prompts.tolist() == [i for i in range(18) if i % 3 < 2]


def test_what_fewer_accounts_share_is_not_found() -> None:
    assert find_shared(sightings(traffic(TEMPLATE, 4))) == []
    assert len(find_shared(sightings(traffic(TEMPLATE, 4)), least_accounts=4)) == 1


@pytest.mark.parametrize(("shingles", "found"), [(3, 0), (4, 1)])
def test_a_phrase_needs_four_shingles(shingles: int, found: int) -> None:
    assert len(find_shared(sightings(traffic(range(1_000, 1_000 + shingles), 9)))) == found


def test_prompts_that_lost_a_third_of_the_wording_belong_to_it() -> None:
    rng = np.random.default_rng(0)
    prompts = [
        (account, [*rng.choice(np.array(TEMPLATE), 20, replace=False).tolist(), *noise(account)])
        for account in range(40)
    ]
    (found,) = find_shared(sightings(prompts))
    assert set(found.shingles.tolist()) <= set(TEMPLATE) and len(found.shingles) > 20
    assert len(found.prompts) >= 39


def test_two_wordings_are_told_apart_whatever_the_order() -> None:
    prompts = [*traffic(TEMPLATE, 6), *traffic(OTHER, 8, first=500)]
    expected = [list(OTHER), list(TEMPLATE)]  # the one that most accounts hold first
    for seed in range(3):
        shuffled = [prompts[i] for i in np.random.default_rng(seed).permutation(len(prompts))]
        assert [found.shingles.tolist() for found in find_shared(sightings(shuffled))] == expected


def test_an_every_day_shingle_in_a_wording_does_not_hide_it() -> None:
    everyday = [(100 + i, [TEMPLATE[0], *noise(900 + i)]) for i in range(50)]
    (found,) = find_shared(sightings([*traffic(TEMPLATE, 6), *everyday]))
    assert set(TEMPLATE[1:]) <= set(found.shingles.tolist()) and found.prompts.max() < 18


def test_nothing_in_nothing_out() -> None:
    nothing = np.empty(0, np.int64)
    assert find_shared(Sightings(nothing, nothing.astype(np.uint64), nothing)) == []


def test_facets_by_hand() -> None:
    context = Context(
        account=np.array([0, 0, 1, 2, 3]),
        unit=np.array([1, 2, 1, 3, 4], np.uint64),
        p_extraction=np.array([0.2, 0.4, 0.9, 0.6, 0.1], np.float32),
        us=np.array([[0, 0], [1, 1], [80, 80], [90, 95], [100, 100]]) * DAY,
    )
    facets = facets_of(Shared(np.arange(12, dtype=np.uint64), np.array([0, 1, 2, 3])), context)
    assert (facets.n_accounts, facets.n_prompts) == (3, 4)
    assert facets.users == 2.0  # one account with two prompts, two with one
    assert facets.intent == pytest.approx(0.6)  # of 0.2, 0.9 and 0.6
    assert facets.diversity == 0.75  # one text of two accounts
    assert facets.size == 0.5  # 12 of 24
    assert facets.growth == pytest.approx((2 + 1) / (1 / 3 + 1))
    assert facets.strength == pytest.approx(2 * 0.6 * 0.75 * 0.5 * 2)  # growth counts within a factor of 2
    halved = facets_of(Shared(np.arange(12, dtype=np.uint64), np.array([0, 1, 2, 3])), context, kept=0.5)
    assert halved.size == 1.0


def test_growth_of_a_moment_is_none() -> None:
    one = np.zeros(2, np.int64)
    context = Context(np.arange(2), np.arange(2, dtype=np.uint64), np.ones(2, np.float32), np.stack([one, one], axis=1))
    assert facets_of(Shared(np.arange(4, dtype=np.uint64), np.arange(2)), context).growth == 1.0


def test_every_facet_counts() -> None:
    facets = Facets(10, 20, 10.0, 0.5, 0.8, 0.9, 1.5)
    for name in ("users", "intent", "diversity", "size", "growth"):
        assert replace(facets, **{name: getattr(facets, name) / 2}).strength < facets.strength, name


def test_a_part_of_a_stronger_finding_is_left_out() -> None:
    def shared(first: int, prompts: list[int]) -> Shared:
        return Shared(np.arange(first, first + 4, dtype=np.uint64), np.array(prompts))

    found = [shared(0, [0, 1, 2]), shared(10, [0, 1, 2, 3]), shared(20, [3, 4]), shared(30, [4, 5, 6])]
    assert ranked(found, [1.0, 2.0, 0.5, 3.0]) == [3, 1]
    assert ranked(found, [2.0, 1.0, 0.5, 0.1]) == [0, 2, 3]
    assert ranked([], []) == []
