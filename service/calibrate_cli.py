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
    exceptions: Exceptions = None,
) -> None:
    """Certify the baselines on your own vetted accounts.

    Counts how many of them, in a labelled run, are above the baselines that evidence is counted against, by stratum;
    from that, how many of all such accounts may be (95 % confidence), and what false flags may be promised to be. Vet
    accounts by means of your own, never by their verdicts here, and draw them at random within a stratum.

    \b
    probewatch calibrate run --benign vetted.csv
    probewatch calibrate run --benign vetted.csv --out calibration.json
    """
    from service.calibration import calibrate as measure
    from service.calibration import write_calibration
    from service.calibration_words import calibration_lines
    from service.exceptions import read_exceptions
    from service.vetted import read_vetted

    agreed = read_exceptions(exceptions) if exceptions is not None else []
    found = measure(run, read_vetted(benign), agreed)
    if out is not None:
        write_calibration(found, out)
    typer.echo("\n".join(calibration_lines(found)))
