"""The commands `probewatch templates export` and `import`: signatures between laboratories, in a file without text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.adding import LOCAL, AddTo, Against, DryRun, Note, Target, Yes, add_confirmed, check_target, now
from service.options import BundleDir

if TYPE_CHECKING:
    from classifier.catalogue import Entry
    from classifier.exchange import Exchange
    from classifier.pipeline import Pipeline
    from service.exchanges import Joining

exchange_app = typer.Typer()
_Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of signatures.", show_default="all there are")
]


@exchange_app.command("export")
def export_templates(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write; must not be there yet.")],
    ids: _Ids = None,
    catalogue: Annotated[
        Path, typer.Option("--catalogue", metavar="DIR", readable=False, help="Catalogue to take them from.")
    ] = LOCAL,
) -> None:
    """Write signatures of a catalogue to one file, for another laboratory.

    The file holds facts, hashes of runs of three words, mean embeddings of the same words and from how many prompts and
    accounts they were made; no notes and no prompts. Whoever gets it can find out the wording that the prompts share,
    and nothing of what only one account or fewer than three prompts say.

    \b
    probewatch templates export night_mill/0 --out night.safetensors
    """
    from classifier.catalogue import open_catalogue
    from classifier.errors import OutputError
    from classifier.exchange import pack
    from service.exchanges import shared_of
    from service.files import replacing
    from service.report_words import counted

    local = open_catalogue(catalogue)
    shared = shared_of(local.entries, ids if ids is not None else [], catalogue)
    if out.exists():
        raise OutputError(f"{out}: is there already and is left alone; name another file with --out.")
    with replacing(out) as temporary:
        temporary.write_bytes(pack(shared, local.encoder))
    typer.echo(f"{out}: {counted(len(shared), 'signature')} of catalogue {local.id}, no text.")


@exchange_app.command("import")
def import_templates(
    source: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="What `templates export` wrote.")],
    ids: _Ids = None,
    against: Against = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: AddTo = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add signatures that another laboratory exported.

    They are checked as those of `add` are: a signature that matches 1 % of ordinary prompts or more, shares most of a
    known one or would excuse it is refused, and thresholds are raised above what any ordinary prompt holds. The note
    begins with the id of the file's content.

    \b
    probewatch templates import night.safetensors --catalogue local --dry-run
    """
    from classifier.exchange import open_exchange
    from service.exchanges import joining
    from service.prompts import read_ordinary

    target = Target(bundle, catalogue, note, dry_run, yes)
    pipeline = check_target(target)
    exchange = open_exchange(source)
    fitted = exchange.fitted(pipeline.encoder_digest)
    ordinary = read_ordinary(against if against is not None else [])
    found = joining(fitted, ids if ids is not None else [], str(source), ordinary, pipeline.labeler)
    _print_joining(exchange, found, pipeline)
    origin = f"exchange {exchange.id}" + (f": {note}" if note else "")
    add_confirmed(target, [_entry(one, origin) for one in found], pipeline)


def _print_joining(exchange: Exchange, found: list[Joining], pipeline: Pipeline) -> None:
    from service.template_words import joining_lines

    for one in found:
        typer.echo("\n".join(joining_lines(one)))
    if exchange.encoder != pipeline.encoder_digest:
        typer.echo("Vectors are left out: another encoder than this bundle's made them. Shingles alone will match.")


def _entry(joining: Joining, note: str) -> Entry:
    from classifier.catalogue import Entry, Origin

    shared = joining.shared
    return Entry(shared.signature, Origin(now(), note, shared.n_samples, shared.n_accounts))
