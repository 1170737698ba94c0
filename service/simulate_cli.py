"""The command `probewatch simulate`: options in, a folder of traffic and its truth out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classifier.errors import UsageError
from service.options import Quiet, Seed
from service.progress import show_count


def simulate(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for traffic/ and truth/; new or empty.", readable=False)
    ],
    exchanges: Annotated[int, typer.Option("--exchanges", metavar="N", min=1, help="Requests in all.")],
    accounts: Annotated[int, typer.Option("--accounts", metavar="N", min=1, help="Accounts in all.")],
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, help="Length.", show_default="the scenario's, or 14")
    ] = None,
    campaign_accounts: Annotated[
        int | None,
        typer.Option("--campaign-accounts", metavar="N", min=0, help="Of them in a campaign.", show_default="a 20th"),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share", min=0, max=1, metavar="SHARE", help="Of its requests that extract.", show_default="0.25"
        ),
    ] = None,
    families: Annotated[
        list[str] | None,
        typer.Option("--families", metavar="ID", help="It uses; give it again for more.", show_default="three of code"),
    ] = None,
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", metavar="FILE", help="TOML with any campaigns, instead.", show_default="none"),
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            "--texts",
            metavar="FILE",
            help="Parquet or JSONL with a column text (and family, app, kind, capability) to send; may be given again.",
            show_default="what ships",
        ),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Make traffic of honest accounts with planted campaigns, and write the truth beside it.

    People by day and week in their time zones, applications, jobs, agents, judges, evaluation runs and resellers; and
    campaigns, whose accounts mix extraction with ordinary requests. DIR/traffic is what `label` reads; DIR/truth says
    of every account and event what it is. A scenario holds days, start and a [[campaign]] each with name, accounts,
    exchanges, share, families, first_day, last_day, live (accounts at once, the others replace them), ramp_days,
    change_day and families_after, turning (share of accounts that turn bad late) and turn_day.

    \b
    probewatch simulate --out sim --exchanges 200000 --accounts 2000
    probewatch label sim/traffic --out run --population 2000
    """
    from training.simulate import simulate as write_simulation
    from training.simulate_scenario import make_scenario, read_plan, simple_plan

    given = {"--campaign-accounts": campaign_accounts, "--share": share, "--families": families}
    if scenario is not None:
        clash = next((name for name, value in given.items() if value is not None), None)
        if clash is not None:
            raise UsageError(f"{clash} and --scenario say the same thing twice: leave one of them out.")
        plan = read_plan(scenario)
    else:
        plan = simple_plan(accounts, campaign_accounts, share, families if families is not None else (), days)
    world = make_scenario(plan, exchanges, accounts, days, seed)
    with show_count(quiet, "simulating", world.exchanges) as progress:
        totals = write_simulation(out, world, texts if texts is not None else (), progress)
    if not quiet:
        typer.echo(
            f"{totals.events:,} events of {world.accounts:,} accounts over {world.days} days: {totals.extraction:,} are"
            f" extraction, {totals.retries:,} are sent twice.\n\ntraffic: {out / 'traffic'}\ntruth: {out / 'truth'}"
        )
