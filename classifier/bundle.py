"""The bundle: everything learned, as data files in one folder, and a manifest that says which files, and how good.

Stands before pipeline, which asks `open_bundle` for the files. The digests of all files are checked before any of them
is parsed, so a damaged bundle is refused with a sentence and never half loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from classifier.errors import BundleError
from classifier.evidence import Baselines
from classifier.heads import LOGITS, Calibration
from classifier.taxonomy import data_dir as data_dir
from classifier.types import CAPABILITIES

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
ID_DIGITS = 16


@dataclass(frozen=True)
class Stratum:
    """What certification found in one kind of honest conduct: of `n` independent ones `k` exceeded the baseline, so at
    most the share `epsilon` of all such do (Clopper-Pearson, 95 %)."""

    stratum: str
    n: int
    k: int
    epsilon: float


def largest_epsilon(certification: Iterable[Stratum]) -> float:
    """What may be assumed of accounts of which it is not known what stratum they are; 1 if nothing was certified."""
    return max((stratum.epsilon for stratum in certification), default=1.0)


@dataclass(frozen=True)
class Decisions:
    """How logits become labels, all of it chosen on sources that were left out of what was learnt.

    Attributes:
        static, transformer: calibration of either tier.
        thresholds: least probability at which a capability is named, for each.
        cascade_margin: below this margin the static tier asks the transformer, where the bundle has one; above 1:
        always.
    """

    static: Calibration
    transformer: Calibration
    thresholds: Mapping[str, float]
    cascade_margin: float


@dataclass(frozen=True)
class BundleFacts:
    """What is known of a bundle besides its files.

    Attributes:
        decisions: how logits become labels.
        baselines: the null that evidence is counted against.
        certification: how far honest conduct keeps to the baselines.
        provenance: what it was trained on, with which settings; free form.
        quality: measured figures; free form.
        versions: of the libraries that made it.
    """

    decisions: Decisions
    baselines: Baselines
    certification: tuple[Stratum, ...]
    provenance: Mapping[str, Any]
    quality: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle: sha256 in hex, and bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """`files` by POSIX path within the folder; `bundle_id` is a digest of all the rest."""

    bundle_id: str
    format_version: int
    files: Mapping[str, FileEntry]
    facts: BundleFacts


@dataclass(frozen=True)
class Bundle:
    """A folder whose files were found to be those of its manifest."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of a listed file; an unlisted one was not checked, hence is not read.

        Raises:
            BundleError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise BundleError(f"bundle {self.path}: its manifest lists no {name}, which is needed; rebuild the bundle.")
        return self.path / name


def default_bundle_dir() -> Path:
    """The bundle that is shipped; it need not be there in a checkout that was not trained yet."""
    return data_dir() / "bundle"


def write_manifest(folder: Path, facts: BundleFacts) -> Manifest:
    """List all files of a folder, hidden ones apart, in its manifest, which replaces an earlier one.

    Equal files and facts give an equal id, on any machine and at any time.
    """
    files = {name: _entry(folder / name) for name in _file_names(folder)}
    listed = {name: asdict(entry) for name, entry in files.items()}
    content = {"format_version": FORMAT_VERSION, "files": listed, **asdict(facts)}
    document = {"bundle_id": identify(content), **content}
    temporary = folder / f".{MANIFEST}.{os.getpid()}.tmp"
    text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
    temporary.replace(folder / MANIFEST)
    return Manifest(document["bundle_id"], FORMAT_VERSION, files, facts)


def open_bundle(folder: Path) -> Bundle:
    """Check a bundle and return it. Costs one pass of sha256 over its files, about 1 ms a MB.

    Raises:
        BundleError: no folder or manifest, a manifest that cannot be read or was altered, another format version,
            a file that is missing or is not the one listed.
    """
    manifest = _read_manifest(folder)
    for name, listed in manifest.files.items():
        _check_file(folder, name, listed)
    return Bundle(folder, manifest)


def _file_names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.as_posix() != MANIFEST and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        return FileEntry(hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size)


def identify(content: Mapping[str, Any]) -> str:
    """Id of a document that JSON can hold: equal content, equal id, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_DIGITS]


def _check_file(folder: Path, name: str, listed: FileEntry) -> None:
    try:
        found = _entry(folder / name)
    except OSError as error:
        raise _refusal(folder, f"{name}, which its manifest lists, cannot be read ({error.strerror}); copy") from error
    if found.size != listed.size:
        raise _refusal(folder, f"{name} has {found.size:,} bytes, expected {listed.size:,}; copy")
    if found.sha256 != listed.sha256:
        got, expected = found.sha256[:12], listed.sha256[:12]
        raise _refusal(folder, f"{name} was altered: its sha256 begins with {got}, expected {expected}; copy")


def _read_manifest(folder: Path) -> Manifest:
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        reason = f"{MANIFEST} cannot be read ({error.strerror}); give the folder of a bundle,"
        raise _refusal(folder, reason) from error
    except (ValueError, RecursionError) as error:
        raise _refusal(folder, f"{MANIFEST} is not valid JSON; copy") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        reason = f"its format version is {version!r}, expected {FORMAT_VERSION}; use the probewatch that made it"
        raise _refusal(folder, reason)
    _check_capabilities(folder, content)
    try:
        return _parse(content)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(folder, f"{MANIFEST} is not as expected ({error}); copy") from error


def _check_capabilities(folder: Path, content: Mapping[str, Any]) -> None:
    """Of the taxonomy, as its thresholds name them; what is malformed is said later."""
    try:
        named = set(content["decisions"]["thresholds"])
    except (LookupError, TypeError):
        return
    if named != set(CAPABILITIES):
        got, expected = ", ".join(sorted(named)), ", ".join(sorted(CAPABILITIES))
        raise _refusal(
            folder, f"it tells {got} apart, the taxonomy lists {expected}; take the taxonomy it was made with"
        )


def _refusal(folder: Path, reason: str) -> BundleError:
    return BundleError(f"bundle {folder}: {reason} or rebuild it with `probewatch train`.")


def _parse(document: Mapping[str, Any]) -> Manifest:
    content = {name: value for name, value in document.items() if name != "bundle_id"}
    if document["bundle_id"] != identify(content):
        raise ValueError(f"bundle_id is {document['bundle_id']!r}, its content's is {identify(content)!r}")
    files = {name: FileEntry(str(entry["sha256"]), int(entry["size"])) for name, entry in content["files"].items()}
    outside = [name for name in files if not _is_inside(name)]
    if outside:
        raise ValueError(f"the file name {outside[0]!r} leads out of the folder")
    facts = BundleFacts(
        decisions=parse_decisions(content["decisions"]),
        baselines=parse_baselines(content["baselines"]),
        certification=tuple(Stratum(**stratum) for stratum in content["certification"]),
        provenance=dict(content["provenance"]),
        quality=dict(content["quality"]),
        versions={name: str(value) for name, value in content["versions"].items()},
    )
    return Manifest(document["bundle_id"], FORMAT_VERSION, files, facts)


def parse_decisions(content: Mapping[str, Any]) -> Decisions:
    """Decisions as `asdict` and JSON leave them. Raises LookupError, TypeError or ValueError."""
    return Decisions(
        static=_calibration(content["static"]),
        transformer=_calibration(content["transformer"]),
        thresholds={name: float(content["thresholds"][name]) for name in CAPABILITIES},
        cascade_margin=float(content["cascade_margin"]),
    )


def _calibration(content: Mapping[str, Any]) -> Calibration:
    scale, shift = (tuple(float(value) for value in content[name]) for name in ("scale", "shift"))
    if len(scale) != LOGITS or len(shift) != LOGITS:
        raise ValueError(f"a calibration has {len(scale)} scales and {len(shift)} shifts, expected {LOGITS} of each")
    return Calibration(scale, shift)


def parse_baselines(content: Mapping[str, Any]) -> Baselines:
    """Baselines as `asdict` and JSON leave them. Raises LookupError, TypeError or ValueError."""
    return Baselines(float(content["m1"]), tuple(float(value) for value in content["m2"]))


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set(name) & set("\\\0")
