"""The commands `probewatch alerts`: a secret, a test, what waits and what failed. Used by `cli`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import OutputError, UsageError
from service.options import AsJson
from service.serve_cli import Url

if TYPE_CHECKING:
    from service.store.opening import Store

alerts_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Alerts of new flags, campaigns and templates, sent to PROBEWATCH_ALERT_URL.",
)

_SECRET_BYTES = 32


@alerts_app.command("secret")
def alerts_secret() -> None:
    """Make a secret for PROBEWATCH_ALERT_SECRET and the receiver, and print it."""
    import base64
    import secrets

    from service.alerts.webhook import SECRET

    typer.echo(SECRET + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())


@alerts_app.command("test")
def alerts_test() -> None:
    """Send one alert that says it is a test, by the settings in the environment, whatever the hour."""
    from service.alerts.worker import alerting_of, send_test
    from service.settings import settings_of

    alerting = alerting_of(settings_of())
    if alerting is None:
        raise UsageError("There is no receiver: set PROBEWATCH_ALERT_URL and PROBEWATCH_ALERT_SECRET.")
    sent = send_test(alerting)
    if sent.problem is not None:
        raise OutputError(f"The test was not taken by {alerting.receiver.host}: {sent.problem}.")
    typer.echo(f"{alerting.receiver.host} took the test: it answered {sent.status}.")


@alerts_app.command("list")
def alerts_list(
    store: Url = None,
    n: Annotated[int, typer.Option("--last", metavar="N", min=1, help="How many messages.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List messages, newest first: sent, waiting, or given up and why."""
    import json
    from dataclasses import asdict

    from service.alerts.shown import shown
    from service.store.outbox import count_waiting, read_messages

    with closing(_up_to_date(store)) as opened, opened.reading() as connection:
        messages, waiting = read_messages(connection, n), count_waiting(connection)
    if as_json:
        typer.echo(json.dumps({**asdict(waiting), "messages": [shown(one) for one in messages]}))
        return
    for one in map(shown, messages):
        counts = f"{one['alerts']:>3} alerts  {one['tries']:>2} tries"
        reason = "" if one["reason"] is None else f"  {one['reason']}"
        typer.echo(f"{one['message_id']}  {one['made']}  {one['state']:<7}  {counts}{reason}")
    typer.echo(f"{waiting.n_waiting:,} alerts wait to be sent, {waiting.n_failed:,} messages were given up.")


@alerts_app.command("retry")
def alerts_retry(store: Url = None) -> None:
    """Have messages that were given up tried again, by whoever serves."""
    import getpass
    import time

    from service.store.audit import write_audit
    from service.store.outbox import revive

    with closing(_up_to_date(store)) as opened, opened.writing() as connection:
        n = revive(connection, time.time_ns() // 1000)
        write_audit(connection, f"command line, {getpass.getuser()}", "alerts retried", str(n))
    typer.echo(f"{n:,} messages are tried again.")


def _up_to_date(url: str | None) -> Store:
    from service.settings import settings_of
    from service.store.opening import open_store
    from service.store.upgrade import upgrade

    store = open_store(settings_of(store=url).store)
    upgrade(store)
    return store
