"""Where accounts stand: thresholds from all of them, and when the rule first held. Stands after `recording`."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection, text

from classifier.errors import UsageError
from classifier.evidence import Baselines
from classifier.verdicts import Thresholds, Times, find_thresholds, flag_scale, flag_times
from service.store.schema import LEAST_LOG_M, LEAST_LOG_REVIEW

_HIGH_M = text(f"SELECT log_max_e FROM accounts WHERE log_max_e >= {LEAST_LOG_M}")
_HIGH_REVIEW = text(f"SELECT log_review FROM accounts WHERE log_review >= {LEAST_LOG_REVIEW}")
_RECORDS = text(
    f"SELECT account_no, us, log_max_e FROM records WHERE account_no IN (SELECT account_no FROM accounts "
    f"WHERE log_max_e >= {LEAST_LOG_M} AND log_max_e >= :least) ORDER BY account_no, us"
)


def read_thresholds(connection: Connection, population: int, baselines: Baselines) -> Thresholds:
    """The thresholds of this moment.

    Raises:
        UsageError: the store holds more accounts than the population.
    """
    n_accounts = connection.execute(text("SELECT count(*) FROM accounts")).scalar_one()
    if n_accounts > population:
        raise UsageError(
            f"The store holds {n_accounts:,} accounts, the population is {population:,}: set PROBEWATCH_POPULATION to "
            "the number of registered accounts."
        )
    log_m, log_review = (np.array(connection.execute(one).scalars().all(), float) for one in (_HIGH_M, _HIGH_REVIEW))
    return find_thresholds(log_m, log_review, population, baselines)


def read_flag_times(connection: Connection, thresholds: Thresholds) -> dict[int, int]:
    """When the rule first held for each flagged account, us since 1970, by account_no; without those that reached the
    threshold since it was found."""
    rows = connection.execute(_RECORDS, {"least": thresholds.log_flag}).all()
    if not rows:
        return {}
    numbers, us, log_m = (np.array(column) for column in zip(*rows, strict=True))
    distinct, account = np.unique(numbers, return_inverse=True)
    scale = flag_scale(thresholds.population)
    times: Times = flag_times(account, us, log_m, len(distinct), thresholds.n_flagged, scale)
    held = ~np.isnat(times)
    return dict(zip(distinct[held].tolist(), times[held].astype(np.int64).tolist(), strict=True))
