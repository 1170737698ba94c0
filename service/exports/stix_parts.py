"""Pieces of STIX objects that do not depend on a run: ids, what all exporters have in common, and our extension.

Used by `stix`. Needs the exports extra.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import stix2

from service.exports.atlas import TECHNIQUES
from service.exports.carried import EXTENSION_ID

_NAMESPACE = UUID("8794e10a-d798-591b-996d-78936762680c")
PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
"""Of what is the same in every export, so that it is the same object in every export."""

SCHEMA = (
    "Version 1.0.0. A property that is unknown or empty is left out. "
    "indicator: signature_id, family, technique, capability (coding, agentic_reasoning, long_horizon_planning, other; "
    "left out where the payload tells), tier (exclusive: honest accounts practically never send it; public: they do), "
    "shingles_sha256 (of its hashed runs of three words, u64 little-endian, in order), and unless it ships with "
    "probewatch: exchange (base64 of the probewatch exchange file, format 1, that holds it alone: a safetensors file "
    "without text) and exchange_sha256. Its pattern is: signature, signature_id, shingles_sha256. "
    "campaign: n_accounts, n_prompts, capabilities, techniques, families, log10_e (of the evidence, base 10), "
    "flagged_at, bundle_id, catalogue_id. "
    "user-account, whose user_id is HMAC-SHA-256 of an account id with a key of the exporter: decision (flag, review), "
    "basis, capabilities, n_prompts, log10_max_e, flagged_at. "
    "sighting of an indicator: n_accounts, campaign_id."
)


def id_of(type: str, *parts: str) -> str:
    """The id of an object, of what makes it the object it is: UUIDv5."""
    return f"{type}--{uuid5(_NAMESPACE, chr(31).join((type, *parts)))}"


PROJECT = id_of("identity", "probewatch")


def extension_of(**properties: Any) -> dict[str, Any]:
    """Our extension of an object, without what is not known."""
    known = {name: _value(value) for name, value in properties.items() if value is not None and value != []}
    return {EXTENSION_ID: {"extension_type": "property-extension", **known}}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    return value


def pattern_id(technique: int) -> str:
    """The id of one of TECHNIQUES."""
    return id_of("attack-pattern", TECHNIQUES[technique].id)


def common_objects() -> list[Any]:
    """Who defines the extension, the extension, and the techniques."""
    dates = {"created": PUBLISHED, "modified": PUBLISHED}
    project = stix2.Identity(
        id=PROJECT,
        name="probewatch",
        identity_class="system",
        description="Tells which accounts probe a model for which capability.",
        **dates,
    )
    extension = stix2.ExtensionDefinition(
        id=EXTENSION_ID,
        created_by_ref=PROJECT,
        name="probewatch",
        description="What probewatch says of campaigns, signatures and accounts.",
        schema=SCHEMA,
        version="1.0.0",
        extension_types=["property-extension"],
        **dates,
    )
    patterns = [
        stix2.AttackPattern(
            id=id_of("attack-pattern", technique.id),
            created_by_ref=PROJECT,
            name=technique.name,
            description=technique.meaning,
            external_references=[
                {"source_name": "mitre-atlas", "external_id": technique.id, "url": technique.url},
            ],
            **dates,
        )
        for technique in TECHNIQUES
    ]
    return [project, extension, *patterns]
