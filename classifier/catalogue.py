"""The catalogue: an operator's own signatures, layered over those of the bundle. A folder of two files, without text.

Beside bundle, before pipeline. `catalogue.json` lists the signatures with their facts and names the file of their
tensors by its content; that file never changes. Adding writes a new tensor file, then renames a new `catalogue.json`
into place, so that a reader without a lock sees the old catalogue whole or the new one whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.bundle import identify
from classifier.errors import BundleError, OutputError, UsageError
from classifier.shingles import SHINGLE_WORDS
from classifier.signatures import Facts, Signature, parse_facts, signatures_of, tensors_of

FORMAT_VERSION = 1
INDEX = "catalogue.json"
TENSORS = "signatures-{}.safetensors"
_LOCK = ".lock"
_COPY_AGAIN = "copy it again, or add its samples to a new one"
_USE_MAKER = "use the probewatch that made it"
_DIGITS = 16  # of a file's sha256 that its name carries


@dataclass(frozen=True)
class Origin:
    """Where a local signature comes from.

    Attributes:
        since: when it was added, ISO 8601 in UTC.
        note: who added it and why, in the operator's words.
        n_samples, n_accounts: what it was induced from.
    """

    since: str
    note: str
    n_samples: int
    n_accounts: int


@dataclass(frozen=True)
class Entry:
    """A local signature and where it comes from."""

    signature: Signature
    origin: Origin


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

    def made_with(self, encoder: str) -> bool:
        """Whether its vectors can be compared with those of an encoder."""
        return self.encoder == encoder

    def fitted(self, encoder: str) -> tuple[Entry, ...]:
        """Its entries as they can be matched beside an encoder. Another encoder's vectors mean nothing to it, and new
        ones would take the samples, so those entries are without vectors and match by their shingles alone."""
        if self.made_with(encoder):
            return self.entries
        return tuple(_without_vectors(entry) for entry in self.entries)


def open_catalogue(folder: Path) -> Catalogue:
    """Check a catalogue and return it. Takes no lock.

    Raises:
        BundleError: missing, cut short, altered, of another format version, or holding an id twice.
    """
    content = _read_index(folder)
    while True:
        try:
            return _parsed(folder, content)
        except FileNotFoundError as error:
            newer = _read_index(folder)  # a catalogue that was added to meanwhile has swept the file away
            if newer == content:
                raise _refusal(folder, f"{Path(str(error.filename)).name}, which {INDEX} lists, is missing") from error
            content = newer
        except (LookupError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
            raise _refusal(folder, f"it is not as expected ({error})") from error


def add_entries(folder: Path, entries: Sequence[Entry], encoder: str) -> Catalogue:
    """Write the next version of a catalogue, which has `entries` as well; the first one if the folder is not there.

    Vectors of an earlier encoder are not carried over (see `Catalogue.fitted`).

    Raises:
        UsageError: an id that is in it already.
        BundleError: what is there is a catalogue that cannot be read.
        OutputError: the folder cannot be written, holds something else, or is being written to.
    """
    with _held(folder):
        known = open_catalogue(folder).fitted(encoder) if (folder / INDEX).exists() else ()
        _refuse_known(folder, known, entries)
        return _write(folder, (*known, *entries), encoder)


def _without_vectors(entry: Entry) -> Entry:
    return replace(entry, signature=replace(entry.signature, vectors=entry.signature.vectors[:0]))


def _refuse_known(folder: Path, known: Sequence[Entry], entries: Sequence[Entry]) -> None:
    ids = {entry.signature.facts.id for entry in known}
    again = [entry.signature.facts.id for entry in entries if entry.signature.facts.id in ids]
    if again:
        raise UsageError(f"catalogue {folder}: holds a signature {again[0]} already; choose another family name.")


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(folder: Path, entries: tuple[Entry, ...], encoder: str) -> Catalogue:
    signatures = [entry.signature for entry in entries]
    widths = {signature.vectors.shape[1] for signature in signatures if len(signature.vectors)}
    raw = save(tensors_of(signatures, max(widths, default=0)))
    digest = hashlib.sha256(raw).hexdigest()
    name = TENSORS.format(digest[:_DIGITS])
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "shingle_words": SHINGLE_WORDS,
        "encoder": encoder,
        "files": {name: {"sha256": digest, "size": len(raw)}},
        "signatures": [asdict(entry.signature.facts) | asdict(entry.origin) for entry in entries],
    }
    catalogue_id = identify(content)
    document = {"catalogue_id": catalogue_id, **content}
    _put(folder / name, raw)
    _put(folder / INDEX, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    _sweep(folder, name)
    return Catalogue(folder, catalogue_id, encoder, entries)


def _put(path: Path, raw: bytes) -> None:
    """A file in place, whole or not at all, also if the machine stops."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _sweep(folder: Path, kept: str) -> None:
    """Delete tensors of earlier versions, and what a killed writer left."""
    for path in (*folder.glob(TENSORS.format("*")), *folder.glob(".*.tmp")):
        if path.name != kept:
            path.unlink(missing_ok=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, made if it is not there, for one writer at a time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [name for name in os.listdir(folder) if not name.startswith((".", "signatures-"))]
        if strangers and INDEX not in strangers:
            raise OutputError(f"{folder}: holds files and is no catalogue; choose a new or empty folder.")
        with (folder / _LOCK).open("wb") as lock:
            _take(lock.fileno(), folder)
            yield
    except OSError as error:
        reason = error.strerror if error.strerror is not None else "it is no writable folder"
        raise OutputError(f"{folder}: cannot be written ({reason}); check permissions and space.") from error


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{folder}: another probewatch is adding to it; repeat the command.") from error


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / INDEX).read_bytes())
    except OSError as error:
        reason = f"{INDEX} cannot be read ({error.strerror})"
        raise _refusal(folder, reason, "give the folder that `probewatch templates add` wrote") from error
    except (ValueError, RecursionError) as error:
        raise _refusal(folder, f"{INDEX} is not valid JSON") from error
    if not isinstance(content, dict):
        raise _refusal(folder, f"{INDEX} holds no object")
    made = (content.get("format_version"), content.get("shingle_words"))
    if made[0] != FORMAT_VERSION:
        reason = f"its format version is {made[0]!r}, expected {FORMAT_VERSION}"
        raise _refusal(folder, reason, _USE_MAKER)
    if made[1] != SHINGLE_WORDS:
        reason = f"its shingles are of {made[1]!r} words, expected {SHINGLE_WORDS}"
        raise _refusal(folder, reason, _USE_MAKER)
    return content


def _parsed(folder: Path, document: Mapping[str, Any]) -> Catalogue:
    content = {name: value for name, value in document.items() if name != "catalogue_id"}
    if document["catalogue_id"] != identify(content):
        raise ValueError(f"{INDEX} was altered: its id is {document['catalogue_id']!r}, expected {identify(content)!r}")
    ((name, listed),) = content["files"].items()
    if name != TENSORS.format(str(listed["sha256"])[:_DIGITS]):
        raise ValueError(f"it lists the file {name!r}")
    raw = (folder / name).read_bytes()
    if hashlib.sha256(raw).hexdigest() != listed["sha256"]:
        raise ValueError(f"{name} was altered: it has {len(raw):,} bytes, expected {listed['size']:,}, or others")
    facts = [_facts(row) for row in content["signatures"]]
    repeated = sorted({fact.id for fact in facts if sum(other.id == fact.id for other in facts) > 1})
    if repeated:
        raise ValueError(f"it holds the signature {repeated[0]} more than once")
    origins = [Origin(**{name: row[name] for name in Origin.__dataclass_fields__}) for row in content["signatures"]]
    signatures = signatures_of(facts, load(raw))
    entries = tuple(Entry(*pair) for pair in zip(signatures, origins, strict=True))
    return Catalogue(folder, document["catalogue_id"], str(content["encoder"]), entries)


def _facts(row: Mapping[str, Any]) -> Facts:
    return parse_facts({name: row[name] for name in Facts.__dataclass_fields__})


def _refusal(folder: Path, reason: str, advice: str = _COPY_AGAIN) -> BundleError:
    return BundleError(f"catalogue {folder}: {reason}; {advice}.")
