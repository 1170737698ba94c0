"""The command `probewatch export`: what a labelled run found, as STIX, OCSF or CSV, for others to use."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from classifier.errors import UsageError
from service.exports.tlp import Tlp

if TYPE_CHECKING:
    from service.exports.pseudonyms import Pseudonyms
    from service.report_types import Selected
    from service.template_words import Listed

_EXTRA = "--format stix needs the exports extra ({missing} is not installed): pip install 'probewatch[exports]'."
_KEY = "export.key"
_NAME = "a probewatch user"


class Format(StrEnum):
    """What an export is written as."""

    STIX = "stix"
    OCSF = "ocsf"
    CSV = "csv"


_ENDINGS = {Format.STIX: "stix.json", Format.OCSF: "ocsf.jsonl", Format.CSV: "csv"}


class _Signatures(NamedTuple):
    """What a run was labelled with, by id, and the digest of the encoder behind the vectors of local ones."""

    listed: dict[str, Listed]
    encoder: str


def export(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `label` wrote.")],
    format: Annotated[Format, typer.Option("--format", help="stix 2.1, ocsf Detection Findings (JSONL), or csv.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Replaced if it is there.", show_default="export.* in DIR"),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="Key of the pseudonyms; the same one every time gives an account the same name every time.",
            show_default=f"{_KEY} in DIR, made if it is not there",
        ),
    ] = None,
    make_key: Annotated[bool, typer.Option("--make-key", help="Make the key file if it is not there.")] = False,
    campaigns: Annotated[
        list[str] | None,
        typer.Option(
            "--campaign",
            metavar="ID",
            help="Only this campaign and its accounts; may be repeated.",
            show_default="all, and accounts of none",
        ),
    ] = None,
    review: Annotated[bool, typer.Option("--review", help="Accounts to review as well as flagged ones.")] = False,
    raw_ids: Annotated[
        bool, typer.Option("--raw-ids", help="csv: a column account_id beside the pseudonym. Keep it at home.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="stix: who exports.", show_default=_NAME)
    ] = None,
    tlp: Annotated[
        Tlp | None, typer.Option("--tlp", help="stix: how far it may be passed on.", show_default="amber")
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            "--catalogue",
            metavar="DIR",
            readable=False,
            help="stix: the one that the run was labelled with, if any.",
            show_default="none",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="DIR", help="stix: the one it was labelled with.", show_default="the one shipped"
        ),
    ] = None,
) -> None:
    """Write what a labelled run found to a file for others: flagged accounts, campaigns, and the signatures behind.

    No prompt text leaves, and account and event ids are replaced by keyed pseudonyms; only who has the key can tell
    whose they are. csv is two files, accounts in FILE and campaigns beside it. stix carries the signatures of your own
    catalogue that were matched, for `templates import` at a peer's, as `templates export` does: whoever gets it can
    read the wording that prompts share. The same run and key give the same bytes.

    \b
    probewatch export run --format stix --name 'Example Lab' --tlp green
    probewatch export run --format ocsf --review --key-file ~/export.key
    probewatch export run --format csv --raw-ids
    """
    from classifier.types import Decision
    from service.exports.pseudonyms import make_key as make_key_file
    from service.exports.pseudonyms import read_key
    from service.report_data import read_selected

    _refuse_stray(
        format, {"--raw-ids": raw_ids}, {"--name": name, "--tlp": tlp, "--catalogue": catalogue, "--bundle": bundle}
    )
    decisions = [Decision.FLAG, *([Decision.REVIEW] if review else [])]
    selected = read_selected(run, decisions, campaigns if campaigns is not None else [])
    key = key_file if key_file is not None else run / _KEY
    if make_key or key_file is None:
        make_key_file(key)
    pseudonyms = read_key(key)
    target = out if out is not None else run / f"export.{_ENDINGS[format]}"
    match format:
        case Format.STIX:
            exporter = name if name is not None else _NAME
            _write(target, [_stix(selected, pseudonyms, exporter, tlp, bundle, catalogue)])
        case Format.OCSF:
            from service.exports.ocsf import ocsf_lines

            _write(target, ocsf_lines(selected, pseudonyms))
        case Format.CSV:
            from service.exports.tables import accounts_csv, campaigns_csv

            _write(target, [accounts_csv(selected.accounts, pseudonyms, raw_ids)])
            _write(target.with_name(f"{target.stem}-campaigns{target.suffix}"), [campaigns_csv(selected.campaigns)])
    _print(target, selected, key, raw_ids)


def _refuse_stray(format: Format, of_csv: dict[str, object], of_stix: dict[str, object]) -> None:
    for only, options in ((Format.CSV, of_csv), (Format.STIX, of_stix)):
        for option in (option for option, given in options.items() if given and format is not only):
            raise UsageError(f"{option} is for --format {only} alone, and the format is {format}: leave it out.")


def _stix(
    selected: Selected,
    pseudonyms: Pseudonyms,
    name: str,
    tlp: Tlp | None,
    bundle: Path | None,
    catalogue: Path | None,
) -> bytes:
    try:
        from service.exports.stix import Exporter, stix_bundle
    except ModuleNotFoundError as error:
        raise UsageError(_EXTRA.format(missing=error.name)) from error
    if not (name.strip() and name.isprintable()):
        raise UsageError("--name is empty or holds what cannot be printed: give one line of text.")
    signatures = _signatures(selected, bundle, catalogue)
    exporter = Exporter(name, pseudonyms, tlp if tlp is not None else Tlp.AMBER, signatures.encoder)
    return stix_bundle(selected, signatures.listed, exporter)


def _signatures(selected: Selected, bundle: Path | None, catalogue: Path | None) -> _Signatures:
    """Those that the run was labelled with.

    Raises:
        UsageError: it was labelled with a catalogue and none is given, or the other way round.
        BundleError: the bundle is another than the run's, or the catalogue does not keep the run's version.
    """
    from classifier.catalogue import open_catalogue
    from classifier.errors import BundleError
    from classifier.pipeline import EMPTY_CATALOGUE
    from service.options import load_pipeline
    from service.template_words import listed_of

    facts = selected.facts
    version = facts.catalogue_id if facts.catalogue_id != EMPTY_CATALOGUE else None
    if catalogue is None and version is not None:
        raise UsageError(f"The run was labelled with catalogue {version}: give its folder as --catalogue.")
    if catalogue is not None and version is None:
        raise UsageError("The run was labelled without a catalogue: leave --catalogue out, or label it again with one.")
    if catalogue is not None:
        open_catalogue(catalogue, version)
    pipeline = load_pipeline(bundle, catalogue, quiet=True, begun=version)
    if facts.bundle_id != pipeline.bundle_id:
        raise BundleError(
            f"The run was labelled with bundle {facts.bundle_id}, and this is {pipeline.bundle_id}: give that one as "
            "--bundle, or label again."
        )
    return _Signatures({one.signature.facts.id: one for one in listed_of(pipeline)}, pipeline.encoder_digest)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    from service.files import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)


def _print(target: Path, selected: Selected, key: Path, raw_ids: bool) -> None:
    from service.report_words import counted

    ids = "with their ids beside" if raw_ids else "by pseudonym"
    found = f"{counted(len(selected.accounts), 'account')} {ids} (key: {key})"
    typer.echo(f"{target}: {found}, {counted(len(selected.campaigns), 'campaign')}.")
