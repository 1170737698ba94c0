"""service/store/ranking.py, on either database: every account once, gravest first; what filters keep."""

from __future__ import annotations

from classifier.types import Decision
from classifier.verdicts import Thresholds
from service.store.opening import Store
from service.store.overview import count_decisions, read_families, read_flagged_days, read_flagged_states
from service.store.ranking import ORDER, Listing, Place, read_numbered, read_ranked
from service.store.reading import Review, read_account
from service.store.reviewing import note_review
from tests.stores import new_store
from tests.test_recording import DAY_US, START, Event, send

THRESHOLDS = Thresholds(population=100, n_flagged=2, log_flag=15.0, log_review=3.0, minimum_units=3)
# Matches make 0 to 2 flagged, 3 reviewed; 4 to 7 are clear, 8 and 9 sent too little.
MATCHES = (6, 5, 4, 2, 0, 0, 0, 0, 0, 0)
SENT = (6, 6, 6, 4, 5, 4, 3, 3, 2, 1)
EVENTS = [
    Event(f"e{a}-{k}", f"Account_{a}", 24 * a + k, k, int(k < MATCHES[a]), 0) for a in range(10) for k in range(SENT[a])
]


def pages(store: Store, n: int, **asked: object) -> list[str]:
    """Ids of all pages, in order."""
    found, place = list[str](), None
    with store.reading() as connection:
        while True:
            page = read_ranked(connection, Listing(**asked), THRESHOLDS, place, n)  # type: ignore[arg-type]
            assert len(page.accounts) <= n
            found += [one.totals["account_id"] for one in page.accounts]
            place: Place | None = page.following
            if place is None:
                return found


def test_pages_hold_every_account_once_in_the_order_of_decision_and_evidence(store_url: str) -> None:
    with new_store(store_url) as store:
        send(store, EVENTS)
        whole = pages(store, 100)
        with store.reading() as connection:
            by_decision = {d: pages(store, 100, decision=d) for d in ORDER}
            counted = count_decisions(connection, THRESHOLDS)
            assert len(read_flagged_states(connection, THRESHOLDS)) == counted[Decision.FLAG]
            assert sum(one.n_matched for one in read_flagged_days(connection, THRESHOLDS)) == 15
            assert read_families(connection)["seed"].n_accounts == 4
            known = read_numbered(connection, [3, 1, 99])
        assert {d: len(ids) for d, ids in by_decision.items()} == counted
        assert [counted[d] for d in ORDER] == [3, 1, 4, 2]
        assert whole == [name for d in ORDER for name in by_decision[d]] and len(set(whole)) == 10
        assert whole[:4] == [f"Account_{i}" for i in range(4)]
        assert [one.totals["account_no"] for one in known] == [3, 1]
        for n in (1, 2, 3):
            assert pages(store, n) == whole


def test_filters_keep_whom_they_say(store_url: str) -> None:
    with new_store(store_url) as store:
        send(store, EVENTS)
        assert pages(store, 2, family="seed") == [f"Account_{i}" for i in range(4)]
        assert pages(store, 2, capability="coding") == [f"Account_{i}" for i in range(4)]
        assert pages(store, 2, capability="other") == [] and pages(store, 2, campaign_id="none") == []
        assert set(pages(store, 2, seen_since=START + 8 * DAY_US)) == {"Account_8", "Account_9"}
        assert pages(store, 2, search="account_3") == ["Account_3"] and pages(store, 2, search="%") == []
        assert pages(store, 2, search="T_1", decision=Decision.FLAG) == ["Account_1"]


def test_whom_a_review_closed_is_decided_until_it_ends(store_url: str) -> None:
    with new_store(store_url) as store:
        send(store, EVENTS)
        steps = [("confirmed", None, False), ("watched", None, True), ("dismissed", 50, False)]
        for at, (state, until, is_open) in enumerate(steps):
            with store.writing() as connection:
                known = read_account(connection, "Account_1")
                assert known is not None
                note_review(connection, known.totals["account_no"], Review(state, "x", "ann", until, at), "digest")
            assert ("Account_1" in pages(store, 3, open_at=10)) is is_open
        assert "Account_1" in pages(store, 3, open_at=60)  # the dismissal has ended, and watched holds again
