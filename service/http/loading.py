"""What the settings name, loaded: bundle, catalogue and agreed exceptions. Stands before `turns`."""

from __future__ import annotations

from classifier.bundle import default_bundle_dir
from classifier.catalogue_folder import INDEX
from classifier.exceptions import AgreedException
from classifier.pipeline import DEFAULT_HASH_KEY, Pipeline
from service.exceptions import read_exceptions
from service.settings import Settings


def load_exceptions(settings: Settings) -> list[AgreedException]:
    """What the file of the settings says; nothing without one. Raises InputError."""
    return read_exceptions(settings.exceptions) if settings.exceptions is not None else []


def load_pipeline(settings: Settings) -> Pipeline:
    """Bundle and catalogue of the settings; an empty folder is a catalogue to come. Raises BundleError."""
    key = settings.hash_key.get_secret_value().encode() if settings.hash_key is not None else DEFAULT_HASH_KEY
    bundle = settings.bundle if settings.bundle is not None else default_bundle_dir()
    folder = settings.catalogue
    is_to_come = folder is not None and folder.is_dir() and not (folder / INDEX).exists()
    return Pipeline.load(bundle, key, None if is_to_come else folder)


def stamp_of(settings: Settings) -> tuple[int, int] | None:
    """Of the newest version of the catalogue: another one has another. None without any."""
    try:
        found = (settings.catalogue / INDEX).stat() if settings.catalogue is not None else None
    except OSError:  # whoever loads it is told why
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None
