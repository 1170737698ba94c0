"""Exemptions by account id, of reviews and of a file, with who agreed and why; accounts linked by reach-back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
_LAST = (
    "(SELECT {} FROM reviews r WHERE r.account_no = e.account_no AND r.state = 'exempted' ORDER BY r.review_no DESC "
    "LIMIT 1)"
)
_KEEP = (
    "INSERT INTO exemptions (account_id, family, origin, who, why, until) SELECT a.account_id, e.family, 'review', "
    f"coalesce({_LAST.format('r.author')}, ''), coalesce({_LAST.format('r.reason')}, ''), e.until "
    "FROM exemptions_before e JOIN accounts a ON a.account_no = e.account_no"
)


def upgrade() -> None:
    op.rename_table("exemptions", "exemptions_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE exemptions_before DROP CONSTRAINT exemptions_pkey")
    op.create_table(
        "exemptions",
        sa.Column("account_id", _TEXT, nullable=False),
        sa.Column("family", _TEXT, nullable=False),
        sa.Column("origin", _TEXT, nullable=False),
        sa.Column("who", _TEXT, nullable=False),
        sa.Column("why", _TEXT, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "family", "origin"),
        sqlite_with_rowid=False,
    )
    op.execute(_KEEP)
    op.drop_table("exemptions_before")
    op.add_column("members", sa.Column("linked", sa.SmallInteger(), nullable=False, server_default="0"))
    op.create_table(
        "links",
        sa.Column("account_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("family", _TEXT, nullable=False),
        sa.Column("n_units", sa.BigInteger(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("approved_us", sa.BigInteger(), nullable=False),
        sa.Column("target", _TEXT),
        sa.PrimaryKeyConstraint("account_no", "family"),
        sqlite_with_rowid=False,
    )
    early = sa.text("matched > 0 AND y = 0 AND y_public = 0")
    op.create_index("units_early", "units", ["us"], sqlite_where=early, postgresql_where=early)
