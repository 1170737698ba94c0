"""Reviews: what analysts conclude of an account, and what that does. Stands after `reading`, `exemptions`, `recording`.

A review never touches evidence, except that an exemption has the matches it covers counted for nothing, and its
withdrawal has them counted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from classifier.evidence import Baselines
from classifier.exceptions import AgreedException
from service.store.audit import write_audit
from service.store.exemptions import REVIEWED, agree, last_day, settle_file, withdraw
from service.store.reading import Known, Review, add_review
from service.store.recording import replay_accounts
from service.store.statements import lookup, write_many

EXEMPTED, WITHDRAWN = "exempted", "withdrawn"
_NUMBERS = "SELECT a.account_no FROM {keys} JOIN accounts a ON a.account_id = CAST(k.value ->> 0 AS TEXT)"
_DAYS = (
    "SELECT DISTINCT u.us / 86400000000 AS day FROM {keys} JOIN units u "
    "ON u.account_no = CAST(k.value ->> 0 AS BIGINT) WHERE u.matched > 0"
)
_CHANGED = "UPDATE days SET changes = changes + 1 WHERE day = ?"


def note_review(connection: Connection, account_no: int, review: Review, digest: str) -> None:
    """Add a review, and write it to the audit log, which names the account by a keyed digest."""
    add_review(connection, account_no, review)
    write_audit(connection, review.author, "account reviewed", f"{digest} ({review.state})")


def exempt_account(
    connection: Connection, known: Known, family: str, review: Review, digest: str, baselines: Baselines
) -> None:
    """Have an account's matches of a family before `review.until` count for nothing, and its verdict found anew."""
    assert review.until is not None  # nothing is exempted for good
    account_id = str(known.totals["account_id"])
    agreed = AgreedException(account_id, family, review.author, review.reason, last_day(review.until))
    agree(connection, agreed, REVIEWED)
    recount(connection, [account_id], baselines)
    note_review(connection, known.totals["account_no"], replace(review, reason=f"{family}: {review.reason}"), digest)


def withdraw_exemption(
    connection: Connection, known: Known, family: str, review: Review, digest: str, baselines: Baselines
) -> bool:
    """Have an account's matches of a family count again, and its verdict found anew; False if no review exempts it."""
    account_id = str(known.totals["account_id"])
    if not withdraw(connection, account_id, family):
        return False
    recount(connection, [account_id], baselines)
    note_review(connection, known.totals["account_no"], replace(review, reason=f"{family}: {review.reason}"), digest)
    return True


def settle_exceptions(connection: Connection, agreed: Sequence[AgreedException], baselines: Baselines) -> int:
    """Have the exceptions of a file hold, and none that stood in it before; of how many accounts that is a change."""
    changed = settle_file(connection, agreed)
    recount(connection, sorted(changed), baselines)
    return len(changed)


def recount(connection: Connection, account_ids: Iterable[str], baselines: Baselines) -> None:
    """Find the verdicts of accounts anew, of those that are known, and have campaigns looked for again."""
    numbers = [row.account_no for row in lookup(connection, _NUMBERS, [(name,) for name in account_ids])]
    if numbers:
        replay_accounts(connection, numbers, baselines)
        days = lookup(connection, _DAYS, [(number,) for number in numbers])
        write_many(connection, _CHANGED, [(row.day,) for row in days])
