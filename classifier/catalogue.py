"""The catalogue: an operator's own signatures, layered over those of the bundle. A folder of files without text.

Beside bundle, before pipeline. A version lists its signatures with their facts and names the file of their tensors by
its content. Versions never change and are kept, so that a run goes on with the one it began with; `catalogue.json` is a
copy of the newest, renamed into place last, so that a reader without a lock sees the old version whole or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.bundle import identify
from classifier.catalogue_folder import DIGITS, INDEX, TENSORS, VERSION, held, is_id, put
from classifier.errors import BundleError, BusyError, UsageError
from classifier.shingles import SHINGLE_WORDS
from classifier.signatures import Facts, Signature, parse_facts, signatures_of, tensors_of
from classifier.types import Tier

FORMAT_VERSION = 1
NOT_CERTIFIED = "is exclusive, but was certified on no ordinary account"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHA256 = re.compile("[0-9a-f]{64}")
_COPY_AGAIN = "copy it again, or add its samples to a new one"
_USE_MAKER = "use the probewatch that made it"


@dataclass(frozen=True)
class Origin:
    """Where a local signature comes from.

    Attributes:
        since: when it was added to this catalogue, ISO 8601 in UTC. An exclusive one is evidence of what is sent later:
            what was sent before, it may have been learnt from.
        note: who added it and why, in the operator's words.
        n_samples, n_accounts: what it was induced from.
        n_certified: ordinary accounts that had no part in it and kept to the baseline; 0 unless it is exclusive.
    """

    since: str
    note: str
    n_samples: int
    n_accounts: int
    n_certified: int = 0

    @property
    def since_us(self) -> int:
        """`since` in microseconds since 1970."""
        return (datetime.fromisoformat(self.since) - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Entry:
    """A local signature and where it comes from."""

    signature: Signature
    origin: Origin

    @property
    def is_certified(self) -> bool:
        """As it must be if it is exclusive."""
        return self.origin.n_certified > 0 or self.signature.facts.tier is not Tier.EXCLUSIVE


@dataclass(frozen=True)
class Catalogue:
    """One immutable version of a catalogue.

    Attributes:
        path: its folder.
        id: digest of all it holds.
        encoder: digest of the encoder that made its vectors.
        entries: in the order in which they were added; ids are distinct.
    """

    path: Path
    id: str
    encoder: str
    entries: tuple[Entry, ...]

    @property
    def exclusive(self) -> list[Entry]:
        """Those that may flag, for what is sent after they were approved."""
        return [entry for entry in self.entries if entry.signature.facts.tier is Tier.EXCLUSIVE]

    def made_with(self, encoder: str) -> bool:
        """Whether its vectors can be compared with those of an encoder."""
        return self.encoder == encoder

    def fitted(self, encoder: str) -> Catalogue:
        """The same as it can be matched beside an encoder. Another encoder's vectors mean nothing to it, and new ones
        would take the samples, so its entries are then without vectors and match by their shingles alone."""
        if self.made_with(encoder):
            return self
        return replace(self, entries=tuple(_without_vectors(entry) for entry in self.entries))


def open_catalogue(folder: Path, version: str | None = None) -> Catalogue:
    """Check a version of a catalogue, the newest if None, and return it. Takes no lock.

    Raises:
        BundleError: missing, cut short, altered, of another format version, or holding what no catalogue does.
    """
    if version is not None and not is_id(version):
        raise _refusal(folder, f"{version!r} is no id of a version", "repeat the command")
    name = INDEX if version is None else VERSION.format(version)
    content = _read_index(folder, name)
    try:
        found = _parsed(folder, name, content)
    except FileNotFoundError as error:
        raise _refusal(folder, f"{Path(str(error.filename)).name}, which {name} lists, is missing") from error
    except (LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError, SafetensorError) as error:
        raise _refusal(folder, f"it is not as expected ({error})") from error
    if version not in (None, found.id):
        raise _refusal(folder, f"{name} holds version {found.id}")
    return found


def has_version(folder: Path, version: str) -> bool:
    """Whether a catalogue keeps a version of this id."""
    try:
        return is_id(version) and (folder / VERSION.format(version)).exists()
    except OSError:  # whoever opens the folder is told why
        return False


def add_entries(folder: Path, entries: Sequence[Entry], encoder: str, onto: str | None) -> Catalogue:
    """Write the next version of a catalogue, which has `entries` as well; the first one if the folder is not there.

    `onto`: id of the version that the entries were checked beside, None for the first.

    Raises:
        UsageError: an id that is in it already, or an exclusive signature that was certified on no account.
        BundleError: what is there is a catalogue that cannot be read, or of another encoder.
        OutputError: the folder cannot be written or holds something else.
        BusyError: it is being written to, or has moved on.
    """
    with held(folder):
        newest = _newest(folder, onto)
        if newest is not None:
            check_encoder(newest, encoder)
        known = newest.entries if newest is not None else ()
        _refuse_entries(folder, known, entries)
        return _write(folder, (*known, *entries), encoder)


def remove_entry(folder: Path, signature_id: str, onto: str) -> Catalogue:
    """Write the next version of a catalogue, which lacks a signature; earlier versions keep it.

    Raises:
        UsageError: it has no such signature.
        BundleError, OutputError, BusyError: as `add_entries`.
    """
    with held(folder):
        newest = _newest(folder, onto)
        known = newest.entries if newest is not None else ()
        kept = tuple(entry for entry in known if entry.signature.facts.id != signature_id)
        if newest is None or len(kept) == len(known):
            raise UsageError(f"catalogue {folder}: holds no signature {signature_id}; `templates list` shows its own.")
        return _write(folder, kept, newest.encoder)


def check_encoder(known: Catalogue, encoder: str) -> None:
    """Raises BundleError if the vectors of a catalogue were made with another encoder: no text is kept to make them
    again, so one addition would take those of all others."""
    if not known.made_with(encoder):
        raise BundleError(
            f"catalogue {known.path}: its vectors were made with another encoder than this bundle's; give the --bundle "
            "it was made beside, or add to a new catalogue."
        )


def _without_vectors(entry: Entry) -> Entry:
    return replace(entry, signature=entry.signature.without_vectors())


def _newest(folder: Path, onto: str | None) -> Catalogue | None:
    newest = open_catalogue(folder) if (folder / INDEX).exists() else None
    found = newest.id if newest is not None else None
    if found != onto:
        raise BusyError(
            f"catalogue {folder}: was changed meanwhile, from version {onto} to {found}; repeat the command."
        )
    return newest


def _refuse_entries(folder: Path, known: Sequence[Entry], entries: Sequence[Entry]) -> None:
    ids = {entry.signature.facts.id for entry in known}
    for entry in entries:
        facts = entry.signature.facts
        if facts.id in ids:
            raise UsageError(f"catalogue {folder}: holds a signature {facts.id} already; choose another family name.")
        if not entry.is_certified:
            raise UsageError(f"catalogue {folder}: {facts.id} {NOT_CERTIFIED}; make it public.")
        ids.add(facts.id)


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(folder: Path, entries: tuple[Entry, ...], encoder: str) -> Catalogue:
    signatures = [entry.signature for entry in entries]
    widths = {signature.vectors.shape[1] for signature in signatures if len(signature.vectors)}
    raw = save(tensors_of(signatures, max(widths, default=0)))
    digest = hashlib.sha256(raw).hexdigest()
    name = TENSORS.format(digest[:DIGITS])
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "shingle_words": SHINGLE_WORDS,
        "encoder": encoder,
        "files": {name: {"sha256": digest, "size": len(raw)}},
        "signatures": [asdict(entry.signature.facts) | asdict(entry.origin) for entry in entries],
    }
    catalogue_id = identify(content)
    document = {"catalogue_id": catalogue_id, **content}
    index = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    put(folder / name, raw)
    put(folder / VERSION.format(catalogue_id), index)
    put(folder / INDEX, index)
    return Catalogue(folder, catalogue_id, encoder, entries)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_index(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except OSError as error:
        reason = f"{name} cannot be read ({error.strerror})"
        raise _refusal(folder, reason, "give the folder that `probewatch templates add` wrote") from error
    except (ValueError, RecursionError) as error:
        raise _refusal(folder, f"{name} is not valid JSON") from error
    if not isinstance(content, dict):
        raise _refusal(folder, f"{name} holds no object")
    made = (content.get("format_version"), content.get("shingle_words"))
    if made[0] != FORMAT_VERSION:
        reason = f"its format version is {made[0]!r}, expected {FORMAT_VERSION}"
        raise _refusal(folder, reason, _USE_MAKER)
    if made[1] != SHINGLE_WORDS:
        reason = f"its shingles are of {made[1]!r} words, expected {SHINGLE_WORDS}"
        raise _refusal(folder, reason, _USE_MAKER)
    return content


def _parsed(folder: Path, index: str, document: Mapping[str, Any]) -> Catalogue:
    content = {name: value for name, value in document.items() if name != "catalogue_id"}
    if document["catalogue_id"] != identify(content):
        raise ValueError(f"{index} was altered: its id is {document['catalogue_id']!r}, expected {identify(content)!r}")
    raw = _tensors(folder, content["files"])
    facts = [parse_facts({name: row[name] for name in Facts.__dataclass_fields__}) for row in content["signatures"]]
    origins = [_origin(row) for row in content["signatures"]]
    if not is_id(content["encoder"]):
        raise ValueError("its encoder is no digest")
    signatures = signatures_of(facts, load(raw))
    entries = tuple(Entry(*pair) for pair in zip(signatures, origins, strict=True))
    for entry in entries:
        if not entry.is_certified:
            raise ValueError(f"signature {entry.signature.facts.id} {NOT_CERTIFIED}")
    return Catalogue(folder, document["catalogue_id"], content["encoder"], entries)


def _tensors(folder: Path, files: Mapping[str, Any]) -> bytes:
    """The file of the tensors, which is the only one listed."""
    ((name, listed),) = files.items()
    sha256, size = listed["sha256"], listed["size"]
    if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256) and name == TENSORS.format(sha256[:DIGITS])):
        raise ValueError(f"it lists the file {name!r}")
    found = (folder / name).stat().st_size
    if type(size) is not int or found != size:
        raise ValueError(f"{name} was altered: it has {found:,} bytes, expected {size!r}")
    raw = (folder / name).read_bytes()
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ValueError(f"{name} was altered: its sha256 is not the one listed")
    return raw


def _origin(row: Mapping[str, Any]) -> Origin:
    """What a row says; catalogues of before there were exclusive ones say nothing of `n_certified`."""
    origin = Origin(**{name: row[name] for name in Origin.__dataclass_fields__ if name in row})
    if datetime.fromisoformat(origin.since).tzinfo is None:
        raise ValueError(f"the origin of signature {row['id']} has a time without a zone")
    counts = (origin.n_samples, origin.n_accounts, origin.n_certified + 1)
    if not isinstance(origin.note, str) or any(type(n) is not int or n < 1 for n in counts):
        raise ValueError(f"the origin of signature {row['id']} is no note and counts")
    return origin


def _refusal(folder: Path, reason: str, advice: str = _COPY_AGAIN) -> BundleError:
    return BundleError(f"catalogue {folder}: {reason}; {advice}.")
