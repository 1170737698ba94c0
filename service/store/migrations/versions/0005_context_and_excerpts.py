"""Context, shown and never evidence: models, organisations, how many end users; and excerpts, for who opts in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
_MATCHED = "n_matched > 0"


def _counts() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("n_prompts", "n_matched")]


def upgrade() -> None:
    op.create_table(
        "account_models",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", _TEXT, nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("account_no", "day", "model"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "account_models_matched",
        "account_models",
        ["day"],
        sqlite_where=sa.text(_MATCHED),
        postgresql_where=sa.text(_MATCHED),
    )
    op.create_table(
        "model_days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", _TEXT, nullable=False),
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("day", "model", "part"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "account_organisations",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("org_id", _TEXT, nullable=False),
        *_counts(),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_no", "org_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("accounts_by_organisation", "account_organisations", ["org_id", "account_no"])
    op.create_table(
        "end_users",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("n_users", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_no"),
    )
    op.create_index("end_users_by_number", "end_users", ["n_users"])
    op.create_table(
        "excerpts",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", _TEXT, nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("excerpt", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_no", "event_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(("ix_excerpts_kept"), "excerpts", ["kept"])
