"""Signatures inside STIX: what an indicator says of one, and the same read back from a peer's bundle.

    catalogue, bundle -> **carried** -> `stix`          a peer's bundle -> **carried** -> `exchanges`

A signature of a catalogue travels whole, as the exchange file of `classifier.exchange` that holds it alone. Of those
that ship, the peer has its own, so id and digest do. Reading takes no library: what strangers wrote is checked here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifier.errors import InputError
from classifier.exchange import Exchange, SharedSignature, open_exchange, pack, parse_exchange
from classifier.signatures import Signature
from service.report_words import counted
from service.template_words import Listed

EXTENSION_ID = "extension-definition--58260f62-43a4-5837-a17e-f4b6e0ee9354"
MOST_BYTES = 64 * 2**20
"""A larger STIX bundle is none of ours: one with 50,000 accounts has half of it."""
_BOM_AND_SPACE = b"\xef\xbb\xbf \t\r\n"
_HEAD = 8  # bytes: an exchange file begins with a length that leaves at least one of them zero; JSON has no zeros


def digest_of(signature: Signature) -> str:
    """SHA-256 of the shingles, u64 little-endian in their order: the wording, whatever it is called."""
    return hashlib.sha256(signature.shingles.astype("<u8").tobytes()).hexdigest()


def described(listed: Listed, encoder: str) -> dict[str, Any]:
    """Properties of the extension of an indicator. `encoder`: digest of the one that made a local one's vectors."""
    facts, origin = listed.signature.facts, listed.origin
    said = {
        "signature_id": facts.id,
        "family": facts.family,
        "technique": facts.technique,
        "capability": facts.target,
        "tier": facts.tier.value,
        "shingles_sha256": digest_of(listed.signature),
    }
    if origin is not None:
        raw = pack([SharedSignature(listed.signature, origin.n_samples, origin.n_accounts)], encoder)
        said |= {"exchange": base64.b64encode(raw).decode(), "exchange_sha256": hashlib.sha256(raw).hexdigest()}
    return {name: value for name, value in said.items() if value is not None}


# --- a peer's ---------------------------------------------------------------------------------------------------------


def open_received(path: Path) -> Sequence[Exchange]:
    """What an exchange file holds, or each indicator of a STIX bundle that carries a signature.

    Raises:
        InputError: missing, cut short, altered, neither of the two, or a bundle that carries none.
    """
    return _read_bundle(path) if _is_json(path) else [open_exchange(path)]


def _is_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # whoever opens it is told why
    return b"\0" not in head and head.lstrip(_BOM_AND_SPACE).startswith(b"{")


def _read_bundle(path: Path) -> list[Exchange]:
    contents = list(_contents(path, _objects(path)))
    found = [_exchange(content, where) for where, content in contents if "exchange" in content]
    ids = Counter(one.signature.facts.id for exchange in found for one in exchange.shared)
    if not ids:
        shipped = f", only {counted(len(contents), 'name')} of such as ship with probewatch" if contents else ""
        raise _refusal(path, f"this STIX bundle carries no signature{shipped}", "there is none to add")
    for repeated in (id for id, n in ids.items() if n > 1):
        raise _refusal(path, f"it carries the signature {repeated} more than once")
    return found


def _objects(path: Path) -> list[Any]:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise _refusal(path, f"it has {size:,} bytes, expected at most {MOST_BYTES:,}", "ask for it in pieces")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise _refusal(path, f"it cannot be read ({error.strerror})", "check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise _refusal(path, "it is not valid JSON, or nested too deeply") from error
    if document.get("type") != "bundle" or not isinstance(document.get("objects"), list):
        raise _refusal(path, "it is JSON and no STIX bundle, which has the type bundle and a list of objects")
    return list(document["objects"])


def _contents(path: Path, objects: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where in the bundle it stands, and what each indicator that is in force says of a signature."""
    for number, item in enumerate(objects):
        where = f"{path}, objects[{number}]"
        if not isinstance(item, dict) or not isinstance(item.get("extensions", {}), dict):
            raise _refusal(where, "it is no STIX object")
        content = item.get("extensions", {}).get(EXTENSION_ID)
        if item.get("type") == "indicator" and content is not None and item.get("revoked") is not True:
            if not isinstance(content, dict):
                raise _refusal(where, "its probewatch extension is no object")
            yield where, content


def _exchange(content: Mapping[str, Any], where: str) -> Exchange:
    try:
        raw = base64.b64decode(content["exchange"], validate=True)
    except (TypeError, ValueError) as error:
        raise _refusal(where, "the signature it carries is not valid base64") from error
    if hashlib.sha256(raw).hexdigest() != content.get("exchange_sha256"):
        raise _refusal(where, "the signature it carries was altered: its sha256 is not the one beside it")
    return parse_exchange(raw, where)


def _refusal(where: Path | str, reason: str, advice: str = "ask whoever made it") -> InputError:
    return InputError(f"{where}: {reason}; {advice}.")
