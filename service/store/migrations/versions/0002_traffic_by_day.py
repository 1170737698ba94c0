"""What the console shows: traffic by day, lists in the order of evidence, exemptions; and which runs were imported."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
_COUNTS = ("n_coding", "n_agentic_reasoning", "n_long_horizon_planning", "n_other", "n_matched")


def upgrade() -> None:
    op.create_table(
        "traffic",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("account_no", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "day_totals",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("day", "part"),
    )
    op.create_table(
        "exemptions",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("family", _TEXT, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_no", "family"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "imports",
        sa.Column("part", _TEXT, nullable=False),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part"),
    )
    op.create_index("accounts_by_evidence", "accounts", ["log_max_e", "account_no"])
    op.create_index("accounts_by_last_seen", "accounts", ["last_seen"])
    op.create_index("uses_by_family", "uses", ["family", "account_no", "n_prompts", "first_seen", "last_seen"])
