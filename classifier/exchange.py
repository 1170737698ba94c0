"""The exchange file: signatures of a catalogue as one self-contained file, for laboratories to pass on. No text.

Beside catalogue: a catalogue's entries -> **exchange** -> another catalogue's, once the service has checked them. The
facts and tensors are those of `classifier.signatures`, where the format of a signature is described.

Format 1 is a safetensors file with the tensors `shingles`, `offsets`, `vectors` and `owners`, and one entry in its
metadata, `probewatch_signatures`, which is JSON:

    format_version  1; also says how shingles are hashed
    exchange_id     digest of all other fields (`bundle.identify`)
    shingle_words   3
    encoder         digest of the encoder that made the vectors; beside another encoder they are left out
    tensors         {name: {dtype, shape, sha256}} of each tensor
    signatures      [{facts of `signatures.Facts`, n_samples, n_accounts}], in the order of the tensors

Digests tell damage, and not who made a file: take it from somebody you know, by a way that you trust.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.bundle import identify
from classifier.catalogue_folder import is_id
from classifier.errors import InputError
from classifier.shingles import SHINGLE_WORDS
from classifier.signatures import Facts, Signature, parse_facts, signatures_of, tensors_of
from classifier.types import Tier

FORMAT_VERSION = 1
MOST_BYTES = 256 * 2**20
"""A larger file is none of ours: some hundred thousand signatures fit."""
_DOCUMENT = "probewatch_signatures"
_METADATA = "__metadata__"
_LENGTH_BYTES = 8  # of the header's length, little-endian, with which a safetensors file begins
_ASK_AGAIN = "ask for it again"


@dataclass(frozen=True)
class SharedSignature:
    """A signature that is passed on. `n_samples`, `n_accounts`: what it was induced from, as its maker says."""

    signature: Signature
    n_samples: int
    n_accounts: int


@dataclass(frozen=True)
class Exchange:
    """What an exchange file holds.

    Attributes:
        id: digest of all of it.
        encoder: digest of the encoder that made the vectors.
        shared: the signatures; their ids are distinct. Whoever takes an exclusive one certifies it on his own traffic.
    """

    id: str
    encoder: str
    shared: tuple[SharedSignature, ...]

    def fitted(self, encoder: str) -> Exchange:
        """The same as it can be matched beside an encoder: another encoder's vectors are left out."""
        if self.encoder == encoder:
            return self
        return replace(
            self, shared=tuple(replace(one, signature=one.signature.without_vectors()) for one in self.shared)
        )

    def taken_as(self, tier: Tier) -> Exchange:
        """The same, its signatures of extraction of a tier: what they are to a peer, they need not be here."""
        return replace(self, shared=tuple(_taken_as(one, tier) for one in self.shared))


def pack(shared: Sequence[SharedSignature], encoder: str) -> bytes:
    """The exchange file of signatures whose vectors an encoder made. Equal content, equal bytes."""
    signatures = [one.signature for one in shared]
    widths = {signature.vectors.shape[1] for signature in signatures if len(signature.vectors)}
    tensors = tensors_of(signatures, max(widths, default=0))
    content = {
        "format_version": FORMAT_VERSION,
        "shingle_words": SHINGLE_WORDS,
        "encoder": encoder,
        "tensors": {name: _described(tensor) for name, tensor in tensors.items()},
        "signatures": [
            asdict(one.signature.facts) | {"n_samples": one.n_samples, "n_accounts": one.n_accounts} for one in shared
        ],
    }
    document = {"exchange_id": identify(content), **content}
    return save(tensors, {_DOCUMENT: json.dumps(document, ensure_ascii=False, allow_nan=False)})


def open_exchange(path: Path) -> Exchange:
    """Check an exchange file and return what it holds.

    Raises:
        InputError: missing, cut short, altered, of another format version, or holding what no exchange file does.
    """
    return parse_exchange(_read(path), path)


def parse_exchange(raw: bytes, where: Path | str) -> Exchange:
    """What `open_exchange` does, of the bytes of a file; `where` they were found is for its errors."""
    try:
        document = _document(raw)
        _check_version(where, document)
        return _parsed(document, raw)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        raise _refusal(where, f"it is not as expected ({error})") from error


def _taken_as(shared: SharedSignature, tier: Tier) -> SharedSignature:
    facts = shared.signature.facts
    if facts.tier is Tier.BENIGN:
        return shared
    return replace(shared, signature=replace(shared.signature, facts=replace(facts, tier=tier)))


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise _refusal(path, f"it has {size:,} bytes, expected at most {MOST_BYTES:,}", "give an exchange file")
        return path.read_bytes()
    except OSError as error:
        raise _refusal(
            path, f"it cannot be read ({error.strerror})", "give the file that `probewatch templates export` wrote"
        ) from error


def _document(raw: bytes) -> Mapping[str, Any]:
    """The JSON of its metadata, of a file that has all the bytes that its header tells of."""
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    if len(raw) < begin:
        raise ValueError(f"it has {len(raw):,} bytes and no whole header: it was cut short, or is something else")
    header = json.loads(raw[_LENGTH_BYTES:begin])
    document = json.loads(header[_METADATA][_DOCUMENT])
    end = begin + max(entry["data_offsets"][1] for name, entry in header.items() if name != _METADATA)
    if len(raw) != end:
        raise ValueError(f"it has {len(raw):,} bytes, expected {end:,}")
    return dict(document)


def _check_version(path: Path | str, document: Mapping[str, Any]) -> None:
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        advice = "ask for one that this probewatch reads, or use the probewatch that made it"
        raise _refusal(path, f"its format version is {version!r}, expected {FORMAT_VERSION}", advice)
    if document.get("shingle_words") != SHINGLE_WORDS:
        raise _refusal(path, f"its shingles are of {document.get('shingle_words')!r} words, expected {SHINGLE_WORDS}")


def _parsed(document: Mapping[str, Any], raw: bytes) -> Exchange:
    content = {name: value for name, value in document.items() if name != "exchange_id"}
    if document["exchange_id"] != identify(content):
        raise ValueError(f"its facts were altered: its id is {document['exchange_id']!r}, expected {identify(content)}")
    if not is_id(content["encoder"]):
        raise ValueError("its encoder is no digest")
    tensors = load(raw)
    if content["tensors"] != {name: _described(tensor) for name, tensor in tensors.items()}:
        raise ValueError("its tensors were altered: their sha256 are not those listed")
    rows = content["signatures"]
    signatures = signatures_of([_facts(row) for row in rows], tensors)
    shared = [SharedSignature(signature, *_counts(row)) for signature, row in zip(signatures, rows, strict=True)]
    return Exchange(document["exchange_id"], content["encoder"], tuple(shared))


def _described(tensor: NDArray[Any]) -> dict[str, Any]:
    sha256 = hashlib.sha256(np.ascontiguousarray(tensor).tobytes()).hexdigest()
    return {"dtype": tensor.dtype.name, "shape": [*tensor.shape], "sha256": sha256}


def _facts(row: Mapping[str, Any]) -> Facts:
    strange = row.keys() - Facts.__dataclass_fields__.keys() - {"n_samples", "n_accounts"}
    if strange:
        raise ValueError(f"a signature has {len(strange)} fields that are no facts")
    return parse_facts({name: row[name] for name in Facts.__dataclass_fields__})


def _counts(row: Mapping[str, Any]) -> tuple[int, int]:
    n_samples, n_accounts = row["n_samples"], row["n_accounts"]
    if any(type(n) is not int or n < 1 for n in (n_samples, n_accounts)):
        raise ValueError(f"signature {row['id']} was made from no positive number of samples and accounts")
    return n_samples, n_accounts


def _refusal(path: Path | str, reason: str, advice: str = _ASK_AGAIN) -> InputError:
    return InputError(f"{path}: {reason}; {advice}.")
