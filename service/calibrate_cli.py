"""The command `probewatch calibrate`: the baselines against accounts that the operator has vetted. Used by `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.options import Exceptions


def calibrate(
    benign: Annotated[
        Path,
        typer.Option(
            "--benign",
            metavar="LIST",
            help="Vetted benign accounts: an id a line, or .jsonl, .csv or .parquet with account_id and, if you like, "
            "stratum (their kind; the bound rests on the kind that the list says least of).",
        ),
    ],
    run: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `label` wrote.", show_default="the folder you are in")
    ] = Path(),
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write all of it there, as JSON.", show_default="none")
    ] = None,
    registered: Annotated[
        list[str] | None,
        typer.Option(
            "--registered",
            metavar="STRATUM=N",
            help="How many of your registered accounts are of a stratum; may be repeated. The others count as of the "
            "one that least is known of.",
            show_default="unknown",
        ),
    ] = None,
    exceptions: Exceptions = None,
) -> None:
    """Certify the baselines on your own vetted accounts.

    Counts how many of them, in a labelled run, are above the baselines that evidence is counted against, by stratum;
    from that, how many of all such accounts may be (95 % confidence), and what false flags may be promised to be. Vet
    accounts by means of your own, never by their verdicts here, and draw them at random within a stratum.

    With `label --calibration`, the file says what evidence is held against: half of these accounts set how much intent
    is allowed, and the other half certifies it.

    \b
    probewatch calibrate run --benign vetted.csv
    probewatch calibrate run --benign vetted.csv --out calibration.json
    """
    from service.calibration import calibrate as measure
    from service.calibration_file import parse_registered, write_calibration
    from service.calibration_words import calibration_lines
    from service.exceptions import read_exceptions
    from service.vetted import read_vetted

    agreed = read_exceptions(exceptions) if exceptions is not None else []
    vetted = read_vetted(benign)
    numbers = parse_registered(registered if registered is not None else [], set(vetted.values()))
    found = measure(run, vetted, agreed, numbers)
    if out is not None:
        write_calibration(found, out)
    typer.echo("\n".join(calibration_lines(found)))
