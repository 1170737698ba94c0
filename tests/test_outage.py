"""PostgreSQL stopped or hanging under load, and back: said at once, over without a restart, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.outages import WAYS, ride_out
from tests.serving import Process
from tests.stores import PostgresServer


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_goes_away_and_comes_back(
    new_server: Callable[..., Process], postgres: PostgresServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBEWATCH_STORE_SECONDS", "1")
    url = postgres.new_database()
    found = ride_out(new_server(url), postgres, url, way, seconds=2)
    assert found.before > 0 and found.after > 0
    assert found.refused.keys() == {"store-unavailable", "not-ready"} and "cannot be used" in found.reason
