"""Settings of the service: environment variables PROBEWATCH_*, or options of `serve` that set them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "PROBEWATCH_"
MOST_BATCH = 1_000
"""Events in one request of /v1/score/batch."""


class Settings(BaseSettings):
    """What an installation decides. Every setting has a default that is safe."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on; other than loopback only with API keys.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that serve, over one store.")
    store: str = Field(
        default="sqlite:///probewatch.db",
        description="Where evidence is kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )
    bundle: Path | None = Field(default=None, description="Folder of the bundle; the one shipped if not given.")
    catalogue: Path | None = Field(default=None, description="Folder of your own signatures; none if not given.")
    population: int = Field(
        default=1_000_000,
        ge=1,
        description="Registered accounts: an upper bound, fixed beforehand, that the promise on false flags rests on.",
    )
    hash_key: SecretStr | None = Field(
        default=None, description="Key of unit and scaffold hashes: the store refuses another one later."
    )
    refresh_seconds: float = Field(
        default=3, gt=0, description="How often thresholds and campaigns are published anew."
    )
    retention_hours: float = Field(
        default=168, gt=0, description="How long an event id is remembered: within it, a retry counts nothing."
    )
    most_ahead_seconds: float = Field(
        default=300, ge=0, description="How far ahead of this clock an event's time may be."
    )
    most_body_bytes: int = Field(default=32 << 20, ge=1024, description="Largest request; above, 413.")
    most_depth: int = Field(default=64, ge=4, description="Deepest JSON; beyond, 400.")
    most_connections: int = Field(default=1_000, ge=1, description="Connections at once; above, 503.")
    most_waiting: int = Field(default=2_000, ge=1, description="Events that may wait to be scored; above, 503.")
    most_wait_ms: float = Field(
        default=30, gt=0, description="Longest wait to be scored, by the pace of late, that is let happen; above, 503."
    )
    request_seconds: float = Field(default=10, gt=0, description="A request's body must have arrived within this.")
    idle_seconds: int = Field(default=15, ge=1, description="A connection without a whole request is closed then.")
    drain_seconds: int = Field(default=20, ge=1, description="How long requests may finish after SIGTERM.")
    rate_per_second: float = Field(
        default=0, ge=0, description="Prompts a second that one API key may send; 0: no limit."
    )


def settings_table() -> list[tuple[str, str, str]]:
    """Environment variable, default and meaning of every setting: for the manual."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default is None else str(field.default)
        rows.append((f"{PREFIX}{name.upper()}", shown, field.description if field.description is not None else ""))
    return rows
