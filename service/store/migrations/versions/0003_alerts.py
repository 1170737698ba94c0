"""Alerts: what was told of, what waits to be sent, and which process does what only one may do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "announced",
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("subject", _TEXT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_no", _NUMBER, nullable=False),
        sa.Column("message_id", _TEXT, nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger()),
        sa.Column("reason", _TEXT),
        sa.PrimaryKeyConstraint("delivery_no"),
    )
    op.create_index("deliveries_by_state", "deliveries", ["state", "next_try"])
    op.create_table(
        "alerts",
        sa.Column("alert_no", _NUMBER, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("subject", _TEXT, nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("delivery_no", sa.BigInteger()),
        sa.PrimaryKeyConstraint("alert_no"),
    )
    op.create_index("alerts_by_delivery", "alerts", ["delivery_no"])
    op.create_index("alerts_by_subject", "alerts", ["kind", "subject"])
    op.create_table(
        "leases",
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("holder", _TEXT, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
