"""Settings of the service: environment variables PROBEWATCH_*, or options of `serve` that set them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from classifier.errors import UsageError
from service.alerts.quiet import parse_quiet
from service.alerts.webhook import parse_secrets, parse_url

PREFIX = "PROBEWATCH_"
MOST_BATCH = 1_000
"""Events in one request of /v1/score/batch."""


class Settings(BaseSettings):
    """What an installation decides. Every setting has a default that is safe."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on; other than loopback only with API keys.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that serve, over one store.")
    store: str = Field(
        default="sqlite:///probewatch.db",
        repr=False,  # it may hold a password
        description="Where evidence is kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
    )
    bundle: Path | None = Field(default=None, description="Folder of the bundle; the one shipped if not given.")
    catalogue: Path | None = Field(
        default=None, description="Folder of your own signatures, written by approvals; none if not given."
    )
    exceptions: Path | None = Field(
        default=None, description="File of agreed exceptions, as `label --exceptions` takes it; none if not given."
    )
    runs: Path | None = Field(
        default=None,
        description="Folder of labelled runs, in which analysts look for new templates; none if not given.",
    )
    ordinary: str | None = Field(
        default=None,
        description="File, folder or glob of ordinary traffic, which new templates must not match; the sample that is "
        "shipped if not given.",
    )
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
    excerpt_hours: float = Field(
        default=0,
        ge=0,
        description="How long redacted beginnings of suspect prompts are kept; 0: none are.",
    )
    excerpt_characters: int = Field(
        default=300, ge=20, le=2_000, description="How much of such a prompt is kept, if any is."
    )
    most_ahead_seconds: float = Field(
        default=300, ge=0, description="How far ahead of this clock an event's time may be."
    )
    most_body_bytes: int = Field(default=32 << 20, ge=1024, description="Largest request; above, 413.")
    most_depth: int = Field(default=64, ge=4, description="Deepest JSON; beyond, 400.")
    most_connections: int = Field(default=1_000, ge=1, description="Connections at once; above, 503.")
    most_waiting: int = Field(default=2_000, ge=1, description="Events that may wait to be scored; above, 503.")
    most_wait_ms: float = Field(
        default=15, gt=0, description="Longest wait to be scored, by the pace of late, that is let happen; above, 503."
    )
    store_seconds: float = Field(
        default=5, ge=1, description="Longest wait for the store to answer where events are scored; beyond, 503."
    )
    request_seconds: float = Field(default=10, gt=0, description="A request's body must have arrived within this.")
    idle_seconds: int = Field(default=15, ge=1, description="A connection without a whole request is closed then.")
    drain_seconds: int = Field(default=20, ge=1, description="How long requests may finish after SIGTERM.")
    rate_per_second: float = Field(
        default=0, ge=0, description="Prompts a second that one API key may send; 0: no limit."
    )
    console_url: str | None = Field(
        default=None, description="Address of the console as people reach it, for links in alerts; none if not given."
    )
    alert_url: SecretStr | None = Field(default=None, description="Where alerts are sent; nowhere if not given.")
    alert_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs alerts, from `probewatch alerts secret`; several with spaces between all sign.",
    )
    alert_quiet: str | None = Field(
        default=None, description="Hours in UTC, such as 22:00-07:00, in which alerts are held back."
    )
    alert_tries: int = Field(
        default=30, ge=1, le=200, description="How often a message is tried, at last hourly, before it is given up."
    )
    alert_seconds: float = Field(default=10, gt=0, le=60, description="How long the receiver may take to answer.")
    keep_account_days: int = Field(
        default=400,
        ge=0,
        le=36_500,
        description="An account unseen for so long, against which nothing is held, is forgotten; 0: never.",
    )
    keep_alert_days: int = Field(
        default=30, ge=1, le=36_500, description="How long alerts are kept that were sent or given up."
    )
    traces_url: str | None = Field(
        default=None,
        description="OTLP/HTTP endpoint for traces, such as http://localhost:4318/v1/traces; none if not given.",
    )

    @field_validator("alert_url")
    @classmethod
    def _alert_url(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            parse_url(given)
        return given

    @field_validator("alert_secret")
    @classmethod
    def _alert_secret(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            parse_secrets(given)
        return given

    @field_validator("alert_quiet")
    @classmethod
    def _alert_quiet(cls, given: str | None) -> str | None:
        if given is not None:
            parse_quiet(given)
        return given


def settings_of(**given: object) -> Settings:
    """Settings of the environment, and what is given. Raises UsageError that names what cannot be used."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper() if first["loc"] else ""
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{PREFIX}{name} cannot be used: {said}.") from None


def settings_table() -> list[tuple[str, str, str]]:
    """Environment variable, default and meaning of every setting: for the manual."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default is None else str(field.default)
        rows.append((f"{PREFIX}{name.upper()}", shown, field.description if field.description is not None else ""))
    return rows
