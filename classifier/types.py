"""The words of the domain as types: closed sets are enums, tables are Arrow schemas. Stands after `taxonomy`."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from classifier.taxonomy import OTHER as OTHER
from classifier.taxonomy import read_taxonomy

SCHEMA_VERSION = 1

TARGETS = tuple(one.id for one in read_taxonomy())
"""What evidence is counted for, in the order of every `[..., 4]` array (4 with the taxonomy that ships): the
capabilities, then `other`, which is everything else."""
CAPABILITIES = TARGETS[:-1]


LEVELS = 7
"""Steps of the rounded intent of a unit, x = level / LEVELS."""


class Decision(StrEnum):
    """An account's verdict, from mildest to gravest."""

    INSUFFICIENT_EVIDENCE = "insufficient_evidence"
    CLEAR = "clear"
    REVIEW = "review"
    FLAG = "flag"


class Basis(StrEnum):
    """What a verdict other than clear rests on."""

    SIGNATURE = "signature"
    INTENT = "intent"
    PUBLIC = "public"
    ANALYST = "analyst"  # linked by what it sent before an analyst approved the family: review, never a flag


class Tier(StrEnum):
    """How much a match of a signature says: see DESIGN.md section 4."""

    EXCLUSIVE = "exclusive"  # an honest account practically never sends it; may flag
    PUBLIC = "public"  # honest people run it too; at most review
    BENIGN = "benign"  # a known application; excuses its own span


class Channel:
    """Values of the `channel` column of unit rows."""

    SIGNATURE = 0
    INTENT = 1


_TIMESTAMP = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("timestamp", _TIMESTAMP, nullable=False),
        pa.field("system", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),
    ]
)
"""One validated request: what was sent, as system text (or null) and newest user turn."""

LABEL_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("timestamp", _TIMESTAMP, nullable=False),
        pa.field("capability", pa.string(), nullable=False),
        *(pa.field(f"p_{c}", pa.float32(), nullable=False) for c in CAPABILITIES),
        pa.field("p_extraction", pa.float32(), nullable=False),
        pa.field("template_id", pa.string()),
        pa.field("template_family", pa.string()),
        pa.field("technique", pa.string()),
        pa.field("similarity", pa.float32()),
        pa.field("coverage", pa.float32()),
        pa.field("match_start", pa.int32()),
        pa.field("match_end", pa.int32()),
        pa.field("benign_app", pa.string()),
        pa.field("unit", pa.uint64(), nullable=False),
        pa.field("scaffolds", pa.list_(pa.uint64()), nullable=False),
    ]
)
"""`labels/*.parquet`, one row an event."""

UNIT_SCHEMA = pa.schema(
    [
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("channel", pa.uint8(), nullable=False),
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("timestamp", _TIMESTAMP, nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("y", pa.uint8(), nullable=False),
        pa.field("y_public", pa.uint8(), nullable=False),
        pa.field("matched", pa.uint8(), nullable=False),
        *(pa.field(f"level_{c}", pa.uint8(), nullable=False) for c in TARGETS),
        pa.field("family", pa.string()),
    ]
)
"""`evidence/units-*.parquet`: distinct observations of an account, kept once per (account_id, channel, key) at the
smallest (timestamp, event_id). `y`: bit c set for a verified exclusive match aimed at TARGETS[c] (signature channel; 0
in the intent channel, and up to the approval of a local signature). `y_public`: the same bits for a verified match of a
public family, which counts for review only. `matched`: 1 if any extraction signature, of whatever tier, matched.
`level_*`: round(7 * p_extraction * p_c), 0..7 (intent channel; 0 in the signature channel). `family`: the matched
family, for reasons and campaigns."""

COUNT_SCHEMA = pa.schema(
    [
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),
        pa.field("n1", pa.int64(), nullable=False),
        pa.field("matched", pa.int64(), nullable=False),
        pa.field("hits", pa.list_(pa.int64(), len(TARGETS)), nullable=False),
        pa.field("n2", pa.int64(), nullable=False),
        pa.field("hist", pa.list_(pa.int64(), len(TARGETS) * (LEVELS + 1)), nullable=False),
    ]
)
"""`evidence/counts.parquet`: integers per (account, event-time UTC day since 1970); `hist` is [4 targets][8 levels],
row-major."""

ACCOUNT_SCHEMA = pa.schema(
    [
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("n_prompts", pa.int64(), nullable=False),
        pa.field("n_units", pa.int64(), nullable=False),
        pa.field("first_seen", _TIMESTAMP, nullable=False),
        pa.field("last_seen", _TIMESTAMP, nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("basis", pa.string()),
        pa.field("capabilities", pa.list_(pa.string()), nullable=False),
        pa.field("log10_e", pa.float64(), nullable=False),
        pa.field("log10_max_e", pa.float64(), nullable=False),
        pa.field("log10_threshold", pa.float64(), nullable=False),
        *(pa.field(f"log10_e_{c}", pa.float64(), nullable=False) for c in TARGETS),
        *(pa.field(f"share_{c}", pa.float32(), nullable=False) for c in TARGETS),
        pa.field("template_rate", pa.float32(), nullable=False),
        pa.field("top_template_family", pa.string()),
        pa.field("techniques", pa.list_(pa.string()), nullable=False),
        pa.field("campaign_id", pa.string()),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("evidence_event_ids", pa.list_(pa.string()), nullable=False),
        pa.field("flagged_at", _TIMESTAMP),
        pa.field("review_state", pa.string()),
    ]
)
"""`accounts.parquet`, one row an account."""

CAMPAIGN_SCHEMA = pa.schema(
    [
        pa.field("campaign_id", pa.string(), nullable=False),
        pa.field("n_accounts", pa.int64(), nullable=False),
        pa.field("n_prompts", pa.int64(), nullable=False),
        pa.field("capabilities", pa.list_(pa.string()), nullable=False),
        pa.field("techniques", pa.list_(pa.string()), nullable=False),
        pa.field("template_families", pa.list_(pa.string()), nullable=False),
        pa.field("scaffolds", pa.list_(pa.uint64()), nullable=False),
        pa.field("first_seen", _TIMESTAMP, nullable=False),
        pa.field("last_seen", _TIMESTAMP, nullable=False),
        pa.field("flagged_at", _TIMESTAMP),
        pa.field("log10_e", pa.float64(), nullable=False),
    ]
)
"""`campaigns.parquet`, one row a campaign."""

DISCOVERED_SCHEMA = pa.schema(
    [
        pa.field("scaffold", pa.uint64(), nullable=False),
        pa.field("n_accounts", pa.int64(), nullable=False),
        pa.field("n_prompts", pa.int64(), nullable=False),
        pa.field("p_extraction", pa.float32(), nullable=False),
        pa.field("growth", pa.float32(), nullable=False),
        pa.field("first_seen", _TIMESTAMP, nullable=False),
        pa.field("last_seen", _TIMESTAMP, nullable=False),
        pa.field("example_event_ids", pa.list_(pa.string()), nullable=False),
    ]
)
"""`discovered.parquet`: scaffolds shared by accounts that no signature explains, most suspicious first."""
