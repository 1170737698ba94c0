"""Accounts, their units and what is held against them; campaigns, reviews, keys and the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_no", _NUMBER, nullable=False),
        sa.Column("account_id", _TEXT, nullable=False),
        sa.Column("n_prompts", sa.BigInteger(), nullable=False),
        sa.Column("n_coding", sa.BigInteger(), nullable=False),
        sa.Column("n_agentic_reasoning", sa.BigInteger(), nullable=False),
        sa.Column("n_long_horizon_planning", sa.BigInteger(), nullable=False),
        sa.Column("n_other", sa.BigInteger(), nullable=False),
        sa.Column("n_matched", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("n_units", sa.BigInteger(), nullable=False),
        sa.Column("log_max_e", sa.Double(), nullable=False),
        sa.Column("log_review", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_no"),
        sa.UniqueConstraint("account_id"),
    )
    op.create_index(
        "accounts_by_m",
        "accounts",
        ["log_max_e"],
        unique=False,
        sqlite_where=sa.text("log_max_e >= 4"),
        postgresql_where=sa.text("log_max_e >= 4"),
    )
    op.create_index(
        "accounts_by_review",
        "accounts",
        ["log_review"],
        unique=False,
        sqlite_where=sa.text("log_review >= 2"),
        postgresql_where=sa.text("log_review >= 2"),
    )
    op.create_table(
        "activity",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "account_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", _TEXT, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("role", _TEXT, nullable=False),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "audit",
        sa.Column("audit_no", _NUMBER, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", _TEXT, nullable=False),
        sa.Column("action", _TEXT, nullable=False),
        sa.Column("subject", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("audit_no"),
    )
    op.create_table(
        "days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "events",
        sa.Column("id_high", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id_low", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_no", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_high", "id_low"),
        sqlite_with_rowid=False,
    )
    op.create_index(("ix_events_received"), "events", ["received"], unique=False)
    op.create_table(
        "facts",
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("value", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "members",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("campaign_id", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("account_no"),
    )
    op.create_index(("ix_members_campaign_id"), "members", ["campaign_id"], unique=False)
    op.create_table(
        "publication",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
        sa.Column("campaigns", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )
    op.create_table(
        "records",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_max_e", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_no", "us"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reviews",
        sa.Column("review_no", _NUMBER, nullable=False),
        sa.Column("account_no", sa.BigInteger(), nullable=False),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("author", _TEXT, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("review_no"),
    )
    op.create_index(("ix_reviews_account_no"), "reviews", ["account_no"], unique=False)
    op.create_table(
        "states",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("last_event", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("account_no"),
    )
    op.create_table(
        "units",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("us", sa.BigInteger(), nullable=False),
        sa.Column("event_id", _TEXT, nullable=False),
        sa.Column("y", sa.SmallInteger(), nullable=False),
        sa.Column("y_public", sa.SmallInteger(), nullable=False),
        sa.Column("matched", sa.SmallInteger(), nullable=False),
        sa.Column("levels", sa.SmallInteger(), nullable=False),
        sa.Column("family", _TEXT, nullable=True),
        sa.PrimaryKeyConstraint("account_no", "channel", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "units_verified",
        "units",
        ["us"],
        unique=False,
        sqlite_where=sa.text("y > 0"),
        postgresql_where=sa.text("y > 0"),
    )
    op.create_table(
        "uses",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("family", _TEXT, nullable=False),
        sa.Column("technique", _TEXT, nullable=False),
        sa.Column("scaffold", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n_prompts", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_no", "family", "technique", "scaffold"),
        sqlite_with_rowid=False,
    )
