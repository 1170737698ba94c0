"""What the settings name, loaded: bundle, catalogue and agreed exceptions. Stands before `turns`."""

from __future__ import annotations

import gc
import sys
from typing import NamedTuple

from classifier.bundle import default_bundle_dir
from classifier.catalogue_folder import INDEX
from classifier.errors import BundleError
from classifier.exceptions import AgreedException
from classifier.pipeline import DEFAULT_HASH_KEY, EMPTY_CATALOGUE, Pipeline
from service.exceptions import read_exceptions
from service.settings import Settings

_YOUNG = 10_000
"""Objects that are made before the garbage collector looks for lost ones among them."""
_SWITCH_SECONDS = 0.0005
"""How long one thread goes on while another waits: a tenth of Python's own, which a request would notice."""


def load_exceptions(settings: Settings) -> list[AgreedException]:
    """What the file of the settings says; nothing without one. Raises InputError."""
    return read_exceptions(settings.exceptions) if settings.exceptions is not None else []


class Ids(NamedTuple):
    """What a pipeline was loaded from."""

    bundle: str
    catalogue: str


def ids_of(pipeline: Pipeline) -> Ids:
    return Ids(pipeline.bundle_id, pipeline.catalogue_id)


def load_pipeline(settings: Settings, version: str | None = None) -> Pipeline:
    """Bundle and catalogue of the settings; an empty folder is a catalogue to come. `version`: of the catalogue, the
    newest if None. Raises BundleError."""
    key = settings.hash_key.get_secret_value().encode() if settings.hash_key is not None else DEFAULT_HASH_KEY
    bundle = settings.bundle if settings.bundle is not None else default_bundle_dir()
    folder = settings.catalogue
    is_to_come = folder is not None and folder.is_dir() and not (folder / INDEX).exists()
    has_none = is_to_come or version == EMPTY_CATALOGUE
    return Pipeline.load(bundle, key, None if has_none else folder, None if has_none else version)


def load_alike(settings: Settings, wanted: Ids) -> Pipeline:
    """What another process of this service loaded before, and checked. Raises BundleError if it is not there now."""
    loaded = load_pipeline(settings, wanted.catalogue)
    if ids_of(loaded) != wanted:
        raise BundleError(
            f"bundle {loaded.folder}: is {loaded.bundle_id}, and the service goes by {wanted.bundle}; put that back, "
            "or have this one loaded by POST /v1/reload."
        )
    return loaded


def put_requests_first() -> None:
    """Have the garbage collector never again look through what is loaded, since it stays until the process ends: some
    300,000 objects, for which requests would wait now and then. Of what comes later it looks through little at a time.
    And have threads that do other work hold up requests for no longer than need be."""
    gc.freeze()
    gc.set_threshold(_YOUNG)
    sys.setswitchinterval(_SWITCH_SECONDS)


def stamp_of(settings: Settings) -> tuple[int, int] | None:
    """Of the newest version of the catalogue: another one has another. None without any."""
    try:
        found = (settings.catalogue / INDEX).stat() if settings.catalogue is not None else None
    except OSError:  # whoever loads it is told why
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None
