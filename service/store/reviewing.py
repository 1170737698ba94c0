"""Reviews: what analysts conclude of an account, and what that does. Stands after `reading`, `exemptions`, `recording`.

A review never touches evidence, except that an exemption has the matches it covers counted for nothing.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, text

from classifier.evidence import Baselines
from service.store.audit import write_audit
from service.store.exemptions import exempt
from service.store.reading import Review, add_review
from service.store.recording import replay_accounts

EXEMPTED = "exempted"
_CHANGED = text("UPDATE days SET changes = changes + 1 WHERE day = :day")


def note_review(connection: Connection, account_no: int, review: Review, digest: str) -> None:
    """Add a review, and write it to the audit log, which names the account by a keyed digest."""
    add_review(connection, account_no, review)
    write_audit(connection, review.author, "account reviewed", f"{digest} ({review.state})")


def exempt_account(
    connection: Connection, account_no: int, family: str, review: Review, digest: str, baselines: Baselines
) -> None:
    """Have an account's matches of a family before `review.until` count for nothing, and its verdict found anew."""
    assert review.until is not None  # nothing is exempted for good
    days = exempt(connection, account_no, family, review.until)
    replay_accounts(connection, [account_no], baselines)
    for day in sorted(days):
        connection.execute(_CHANGED, {"day": day})
    note_review(connection, account_no, replace(review, reason=f"{family}: {review.reason}"), digest)
