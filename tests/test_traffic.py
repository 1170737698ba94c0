"""What is counted of traffic by day, and exemptions, on either database."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Connection, text

from classifier.evidence import replay
from classifier.exceptions import AgreedException, excuse
from classifier.units import DAY_US, merge_units
from service.store.erasure import erase_account
from service.store.opening import Store
from service.store.overview import read_account_days, read_days
from service.store.reading import Known, Review, read_account, read_units
from service.store.reviewing import EXEMPTED, exempt_account
from tests.stores import new_store
from tests.test_recording import BASELINES, START, Event, labelled, send

EVENTS = [Event(f"e{i}", f"account-{i % 3}", 7 * i, i, int(i % 2 == 0), i % 8) for i in range(30)]


def number_of(store: Store, account_id: str) -> int:
    with store.reading() as connection:
        known = read_account(connection, account_id)
    assert known is not None
    return int(known.totals["account_no"])


def test_days_add_up_and_retries_add_nothing(store_url: str) -> None:
    with new_store(store_url) as store:
        for events in (EVENTS[:11], EVENTS[5:], EVENTS):
            send(store, events)
        with store.reading() as connection:
            days = read_days(connection)
            by_account = [read_account_days(connection, number_of(store, f"account-{i}")) for i in range(3)]
    assert [one.day for one in days] == sorted({(START + e.hour * 3_600_000_000) // DAY_US for e in EVENTS})
    assert [sum(one.counts) for one in days] == [4, 3, 4, 3, 4, 3, 3, 4, 2]
    assert sum(one.n_matched for one in days) == 15
    assert sum(sum(one.counts) for own in by_account for one in own) == 30


def found(connection: Connection, account: str) -> Known:
    known = read_account(connection, account)
    assert known is not None
    return known


def test_an_exempted_account_is_judged_as_an_exception_in_a_run_has_it(store_url: str) -> None:
    until = START + 3 * DAY_US
    with new_store(store_url) as store:
        send(store, EVENTS[:20])
        number = number_of(store, "account-0")
        review = Review(EXEMPTED, "agreed", "ann", until, 1)
        with store.writing() as connection:
            exempt_account(connection, found(connection, "account-0"), "seed", review, "digest", BASELINES)
        send(store, EVENTS[20:])
        with store.reading() as connection:
            known, units = read_account(connection, "account-0"), read_units(connection, number)
            changes = connection.execute(text("SELECT min(changes) FROM days")).scalar()
    day = (until // DAY_US) - 1
    agreed = AgreedException("account-0", "seed", "ann", "agreed", date(1970, 1, 1) + timedelta(days=day))
    merged = merge_units([labelled(EVENTS)[1]])
    want = replay(excuse(merged, [agreed]).units, BASELINES)
    place = want.account_ids.to_pylist().index("account-0")
    assert known is not None
    assert abs(known.totals["log_max_e"] - want.log_max_e[place]) < 1e-9
    assert known.totals["n_units"] == want.n_units[place]
    assert sum(unit.y > 0 for unit in units) == sum(
        e.y > 0 and START + e.hour * 3_600_000_000 >= until for e in EVENTS if e.account == "account-0"
    )
    assert changes is not None and changes >= 1


def test_erasure_leaves_nothing_by_account(store_url: str) -> None:
    with new_store(store_url) as store:
        send(store, EVENTS)
        number = number_of(store, "account-1")
        with store.writing() as connection:
            review = Review(EXEMPTED, "x", "ann", START + 9 * DAY_US, 1)
            exempt_account(connection, found(connection, "account-1"), "seed", review, "digest", BASELINES)
            assert erase_account(connection, "account-1", "ann", b"key")
        with store.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM exemptions")).scalar() == 0
            for name in ("traffic", "links", "reviews", "uses", "units", "accounts"):
                query = text(f"SELECT count(*) FROM {name} WHERE account_no = :no")
                assert connection.execute(query, {"no": number}).scalar() == 0, name
            assert sum(sum(one.counts) for one in read_days(connection)) == 30
