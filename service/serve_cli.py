"""The commands `probewatch serve`, `import`, `store` and `keys`: what runs it, fills it, and who may. Used by `cli`."""

from __future__ import annotations

import getpass
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import UsageError
from service.options import AsJson, BundleDir, CatalogueDir, Exceptions, Quiet

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.keys import Role
    from service.store.opening import Store

Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
        show_default="PROBEWATCH_STORE, or sqlite:///probewatch.db",
    ),
]

store_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The store of the service.")
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="API keys: who may use the service.")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=65_535, help="Port to listen on.", show_default="8080")
    ] = None,
    store: Url = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes, over one store.", show_default="1")
    ] = None,
    population: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Registered accounts, an upper bound.", show_default="1000000"),
    ] = None,
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    exceptions: Exceptions = None,
) -> None:
    """Serve the scoring endpoint.

    Every option, and more, may be set in the environment as PROBEWATCH_NAME. Evidence is committed before each answer.
    Without API keys it serves this machine alone. /docs describes the calls.

    \b
    probewatch keys add --role scorer --name gateway
    probewatch serve --host 0.0.0.0 --store postgresql://probewatch@db/probewatch
    """
    given = {"host": host, "port": port, "store": store, "workers": workers, "population": population}
    settings = _settings(**given, bundle=bundle, catalogue=catalogue, exceptions=exceptions)
    from service.http.server import serve as run

    run(settings)


def import_run(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a labelled run.")],
    store: Url = None,
    quiet: Quiet = False,
) -> None:
    """Import a labelled run into the store of the service.

    Its accounts are then in the console and go on from there. Safe to repeat: what is in counts once, and a run that
    grew adds what is new.
    """
    from service.importing import import_run as run_import
    from service.importing import n_events_of
    from service.progress import show_count

    total = n_events_of(run)
    with closing(_up_to_date(store)) as opened, show_count(quiet, "importing", total) as progress:
        done = run_import(run, opened, progress)
    typer.echo(f"{done.n_events:,} events imported, {done.n_known:,} were known.")
    named = "" if store is None else f" --store {store}"
    typer.echo(f"The run's verdicts: probewatch serve{named} --population {done.population}")


@store_app.command("upgrade")
def store_upgrade(store: Url = None) -> None:
    """Bring the tables to this version's. `serve` does so too; safe to repeat, and from several at once."""
    from service.store.upgrade import head, upgrade

    with closing(_store(store)) as opened:
        changed = upgrade(opened)
    typer.echo(f"The tables are of version {head()}{'' if changed else ' already'}.")


@store_app.command("rebuild")
def store_rebuild(store: Url = None, bundle: BundleDir = None) -> None:
    """Count the evidence of all accounts anew, by the baselines of a new bundle, and by which of its families may flag.

    Stop the service first.
    """
    from service.options import load_pipeline
    from service.store.facts import rebuild
    from service.store.upgrade import check_version

    pipeline = load_pipeline(bundle, None)
    with closing(_store(store)) as opened:
        check_version(opened)
        n_accounts = rebuild(opened, pipeline.baselines, pipeline.public_families)
    typer.echo(f"The evidence of {n_accounts:,} accounts was counted anew.")


@store_app.command("prune")
def store_prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much it would be, and leave it.")] = False,
    store: Url = None,
) -> None:
    """Forget what is past its time, as `serve` does bit by bit: event ids, accounts long unseen, old alerts.

    How long each is kept is set by PROBEWATCH_RETENTION_HOURS, PROBEWATCH_KEEP_ACCOUNT_DAYS and
    PROBEWATCH_KEEP_ALERT_DAYS. Accounts against which anything is held stay.
    """
    import time

    from service.retention import prune, would_prune

    settings, now = _settings(store=store), time.time_ns() // 1000
    with closing(_up_to_date(store)) as opened:
        found = would_prune(opened, settings, now)
        done = found.would if dry_run else prune(opened, settings, now, _who())
    typer.echo(f"{'Would forget' if dry_run else 'Forgotten'}: {done}.")
    if found.n_held:
        typer.echo(f"{found.n_held:,} accounts are as old and stay: something is held against them, or agreed upon.")


@store_app.command("backup")
def store_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", dir_okay=False)], store: Url = None
) -> None:
    """Copy an SQLite store into a file, whole and of one moment, while the service goes on.

    For PostgreSQL: pg_dump --format=custom --file FILE URL.
    """
    from service.store.backup import back_up

    with closing(_store(store)) as opened:
        size = back_up(opened, file)
    typer.echo(f"{file}: {size:,} bytes.")


@store_app.command("restore")
def store_restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")], store: Url = None
) -> None:
    """Make an SQLite store of a backup. Stop the service first, and move the old store aside.

    For PostgreSQL: pg_restore --clean --if-exists --dbname URL FILE.
    """
    from service.store.backup import put_back
    from service.store.upgrade import upgrade

    with closing(_store(store)) as opened:
        put_back(file, opened)
        upgrade(opened)
    typer.echo(f"{file} is restored. Events since it was taken are not in it: whoever has them may send them again.")


@store_app.command("reviews")
def store_reviews(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Replaced if it is there.")], store: Url = None
) -> None:
    """Write what analysts concluded of accounts, with counts of what these sent, for `train --reviews`.

    The reviews in force, confirmed, dismissed or watched; a line an account. No prompt is in it, but account ids are.
    """
    import time

    from classifier.reviews import to_line
    from service.files import replacing
    from service.store.reviewed import read_reviewed

    with closing(_up_to_date(store)) as opened, opened.reading() as connection:
        reviewed = read_reviewed(connection, time.time_ns() // 1000)
    with replacing(out) as temporary:
        temporary.write_text("".join(to_line(one) + "\n" for one in reviewed), encoding="utf-8", newline="\n")
    typer.echo(f"{len(reviewed):,} reviewed accounts are in {out}.")


@keys_app.command("add")
def keys_add(
    role: Annotated[str, typer.Option(help="scorer sends traffic, analyst reads and reviews, admin does all.")],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Whose key it is.")],
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="It ends after so many days.", show_default="never")
    ] = None,
    store: Url = None,
) -> None:
    """Make a key and print it: this once, since only a digest is kept. Running services know it within seconds."""
    from service.store.keys import add_key

    found = _role(role)
    with closing(_up_to_date(store)) as opened, opened.writing() as connection:
        typer.echo(add_key(connection, found, name, days, _who()))


@keys_app.command("list")
def keys_list(store: Url = None, as_json: AsJson = False) -> None:
    """List keys: id, role, name, and until when each holds."""
    import json
    import time

    from service.store.keys import read_keys

    with closing(_up_to_date(store)) as opened, opened.reading() as connection:
        keys = read_keys(connection)
    now = time.time_ns() // 1000
    rows = [
        {
            "key_id": key.key_id,
            "role": str(key.role),
            "name": key.name,
            "in_use": key.holds_at(now),
            "ends": _day(key.expires),
        }
        for key in keys
    ]
    if as_json:
        typer.echo(json.dumps(rows))
    for row in rows if not as_json else ():
        use = "in use" if row["in_use"] else "not in use"
        ends = "never ends" if row["ends"] is None else f"ends {row['ends']}"
        typer.echo(f"{row['key_id']}  {row['role']:<8} {use:<11} {ends}  {row['name']}")
    if not rows and not as_json:
        typer.echo("There are no keys: the service answers this machine alone.")


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The first part of the key, as `list` shows it.")],
    store: Url = None,
) -> None:
    """Take a key out of use, in running services within seconds."""
    from service.store.keys import revoke_key

    with closing(_up_to_date(store)) as opened, opened.writing() as connection:
        revoke_key(connection, key_id, _who())
    typer.echo(f"The key {key_id} is revoked.")


@keys_app.command("logout")
def keys_logout(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The first part of the key, as `list` shows it.")],
    store: Url = None,
) -> None:
    """End all sessions of the console that a key began, within seconds. The key stays in use."""
    from service.store.ended import end_sessions
    from service.store.keys import read_keys

    with closing(_up_to_date(store)) as opened, opened.writing() as connection:
        if key_id not in {key.key_id for key in read_keys(connection)}:
            raise UsageError(f"There is no key {key_id}: `probewatch keys list` shows them.")
        end_sessions(connection, key_id, _who())
    typer.echo(f"The sessions of the key {key_id} are ended.")


def _settings(**given: str | int | Path | None) -> Settings:
    from service.settings import settings_of

    return settings_of(**given)


def _store(url: str | None) -> Store:
    from service.store.opening import open_store

    return open_store(_settings(store=url).store)


def _up_to_date(url: str | None) -> Store:
    from service.store.upgrade import upgrade

    store = _store(url)
    upgrade(store)
    return store


def _role(text: str) -> Role:
    from service.store.keys import Role

    if text not in list(Role):
        raise UsageError(f"--role got {text!r}: expected one of {', '.join(Role)}.")
    return Role(text)


def _who() -> str:
    """Who runs the command, for the audit log."""
    return f"command line, {getpass.getuser()}"


def _day(us: int | None) -> str | None:
    from datetime import UTC, datetime

    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC).date().isoformat()
