"""The commands `probewatch templates export` and `import`: signatures between laboratories, in a file without text.

What is imported may also be a STIX bundle that `probewatch export` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.adding import (
    LOCAL,
    AddTo,
    Against,
    DryRun,
    FlagTier,
    Note,
    Target,
    Yes,
    add_confirmed,
    check_target,
    print_certified,
    tier_of,
)
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
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", readable=False, help="What `templates export`, or `export --format stix`, wrote."
        ),
    ],
    ids: _Ids = None,
    tier: FlagTier = "public",
    against: Against = None,
    note: Note = "",
    bundle: BundleDir = None,
    catalogue: AddTo = LOCAL,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add signatures that another laboratory exported, in an exchange file or a STIX bundle.

    They are checked as those of `add` are: a signature that matches 1 % of ordinary prompts or more, shares most of a
    known one or would excuse it is refused, and thresholds are raised above what any ordinary prompt holds. The note
    begins with the id of the file's content.

    Those of campaigns are taken as public ones, whatever they are to who exported them, unless you say --tier exclusive
    and your own traffic certifies it; then they flag by what is sent after this import.

    \b
    probewatch templates import night.safetensors --catalogue local --dry-run
    probewatch templates import export.stix.json --catalogue local
    """
    from classifier.types import Tier
    from service.approving import certified_for, ordinary_for
    from service.exchanges import joining
    from service.exports.carried import open_received

    wanted = tier_of(tier, (Tier.EXCLUSIVE, Tier.PUBLIC), against)
    target = Target(bundle, catalogue, note, dry_run, yes)
    pipeline = check_target(target)
    received = open_received(source)
    fitted = [one for exchange in received for one in exchange.fitted(pipeline.encoder_digest).taken_as(wanted).shared]
    ordinary = ordinary_for(wanted, against if against is not None else [])
    found = joining(fitted, ids if ids is not None else [], str(source), ordinary.tuning, pipeline.labeler)
    certified = certified_for(wanted, [one.shared.signature for one in found], ordinary, pipeline)
    _print_joining(received, found, pipeline)
    print_certified(certified)
    exchange_ids = {shared.signature.facts.id: exchange.id for exchange in received for shared in exchange.shared}
    n = certified.n_accounts if certified is not None else 0
    add_confirmed(target, lambda since: [_entry(one, since, exchange_ids, note, n) for one in found], pipeline)


def _print_joining(received: Sequence[Exchange], found: list[Joining], pipeline: Pipeline) -> None:
    from service.template_words import joining_lines

    for one in found:
        typer.echo("\n".join(joining_lines(one)))
    if any(exchange.encoder != pipeline.encoder_digest for exchange in received):
        typer.echo("Vectors are left out: another encoder than this bundle's made them. Shingles alone will match.")


def _entry(joining: Joining, since: str, exchange_ids: Mapping[str, str], note: str, n_certified: int) -> Entry:
    from classifier.catalogue import Entry, Origin
    from classifier.types import Tier

    shared, facts = joining.shared, joining.shared.signature.facts
    said = f"exchange {exchange_ids[facts.id]}" + (f": {note}" if note else "")
    n = n_certified if facts.tier is Tier.EXCLUSIVE else 0
    return Entry(shared.signature, Origin(since, said, shared.n_samples, shared.n_accounts, n))
