"""The file of a calibration: written by `calibrate --out`, read by `label --calibration`. JSON, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.bundle import Stratum, parse_baselines
from classifier.certification import Certificate, clopper_pearson_upper
from classifier.errors import BundleError, InputError, UsageError
from classifier.types import SCHEMA_VERSION
from service.calibration import Calibrated
from service.files import replacing

if TYPE_CHECKING:
    from classifier.pipeline import Pipeline

_AGAIN = "give what `probewatch calibrate --out` wrote"
_ROUNDING = 1e-9


def write_calibration(found: Calibrated, path: Path) -> None:
    """All of it. Raises OutputError if it cannot be written."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **asdict(found)}
    document["n_accounts"] = len(document.pop("conducts"))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def read_calibration(path: Path, pipeline: Pipeline) -> Certificate:
    """What the vetted accounts certify, for labelling with a pipeline.

    Raises:
        InputError: the file cannot be read or is no calibration.
        BundleError: it was made with another bundle or catalogue, of which it says nothing here.
    """
    try:
        document = json.loads(path.read_bytes())
        made = document["run"]["bundle_id"], document["run"]["catalogue_id"]
        certificate = _certificate(document)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}.") from error
    except (ValueError, LookupError, TypeError, AttributeError, BundleError, RecursionError) as error:
        raise InputError(f"{path}: is no calibration ({type(error).__name__}); {_AGAIN}.") from error
    for name, got, expected in zip(
        ("bundle", "catalogue"), made, (pipeline.bundle_id, pipeline.catalogue_id), strict=True
    ):
        if got != expected:
            raise BundleError(
                f"{path}: was made with {name} {got}, this is {expected}; label with this one, and calibrate that run."
            )
    return certificate


def parse_registered(given: Sequence[str], strata: set[str]) -> dict[str, int]:
    """Numbers of accounts by stratum, of texts `STRATUM=N`. Raises UsageError for what cannot be."""
    numbers: dict[str, int] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        if not (number.isascii() and number.isdigit() and name in strata and name not in numbers):
            raise UsageError(
                f"--registered got {text!r}: expected STRATUM=N, each stratum of the list once "
                f"({', '.join(sorted(strata))})."
            )
        numbers[name] = int(number)
    return numbers


def _certificate(document: dict[str, Any]) -> Certificate:
    strata = [Stratum(**row) for row in document["own"]["strata"]]
    registered = {str(name): n for name, n in document["registered"].items()}
    if document["schema_version"] != SCHEMA_VERSION or not all(_is_sound(stratum) for stratum in strata):
        raise ValueError
    if any(type(n) is not int or n < 0 for n in registered.values()):
        raise ValueError
    return Certificate(parse_baselines(document["own"]["baselines"]), strata, registered)


def _is_sound(stratum: Stratum) -> bool:
    """Whether its numbers are counts and the limit that follows from them."""
    counts = type(stratum.n) is type(stratum.k) is int and 0 <= stratum.k <= stratum.n
    return counts and abs(stratum.epsilon - clopper_pearson_upper(stratum.k, stratum.n)) < _ROUNDING
