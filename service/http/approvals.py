"""Changing the catalogue of a running service: what an analyst adds or removes takes effect in every process.

    samples -> approving -> catalogue (on disk) -> **approvals** -> reload of this process, and of all others soon

The same steps as those of `probewatch templates add`, `approve`, `benign` and `remove`. What is added is checked beside
the newest version on disk, and written only if that still is the newest; if another writer was faster, all is done
again beside what he wrote.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from classifier.catalogue import Catalogue, add_entries, check_encoder, open_catalogue, remove_entry
from classifier.catalogue_folder import INDEX, check_room
from classifier.errors import BundleError, BusyError, InputError, OutputError, UsageError
from classifier.pipeline import Pipeline
from classifier.signing import Family
from classifier.types import Tier
from service import approving
from service.approving import Addition, prepare
from service.discovery import Found
from service.http.loading import load_pipeline
from service.http.problems import Problem
from service.http.service import Service
from service.prompts import Prompts
from service.proposals import MOST_SAMPLES
from service.store.audit import write_audit

NO_CATALOGUE = (
    "No catalogue is configured: make a folder that this service may write to, and serve with --catalogue DIR."
)
NO_ORDINARY = (
    "An exclusive signature must be certified on ordinary traffic: set PROBEWATCH_ORDINARY to files of it, or take the "
    "tier public, which flags nobody."
)
_TRIES = 3
_changing = threading.Lock()  # threads of this process take turns; between processes the folder's own lock decides

Written = TypeVar("Written")


@dataclass(frozen=True)
class Wanted:
    """What is asked for: samples as they are read beside a pipeline, what they are to be called, and why."""

    samples_of: Callable[[Pipeline], Prompts]
    family: Family
    reason: str


@dataclass(frozen=True)
class Added:
    """What was added, and the catalogue as it is now; `since`: when it was agreed upon."""

    addition: Addition
    since: str
    catalogue: Catalogue


@contextmanager
def answering() -> Iterator[None]:
    """Answers errors of what the commands do as problems; options of theirs are fields here."""
    try:
        yield
    except (UsageError, InputError, OutputError, BundleError) as error:
        status = 409 if isinstance(error, OutputError | BundleError) else 422
        raise Problem(status, "template-refused", re.sub(r"--(?=[a-z])", "", str(error))) from error


def preview(service: Service, wanted: Wanted) -> Addition:
    """What would be added. Raises Problem as `add` does."""
    with answering():
        return _prepared(service, wanted, _newest(service))


def add(service: Service, wanted: Wanted, who: str) -> Added:
    """Add signatures of samples. Loaded here when this returns, and in every other process within seconds.

    Raises:
        Problem: 422 with the sentence of the command where the samples will not do; 409 where there is no catalogue, it
            cannot be written, or others wrote to it each time.
    """

    def write(folder: Path, pipeline: Pipeline) -> Added:
        addition, since = _prepared(service, wanted, pipeline), approving.now()
        entries = addition.entries(since, f"{who}: {wanted.reason}")
        onto = pipeline.catalogue.id if pipeline.catalogue is not None else None
        return Added(addition, since, add_entries(folder, entries, pipeline.encoder_digest, onto))

    added = _changed(service, write)
    ids = ", ".join(signature.facts.id for signature in added.addition.signatures)
    _note(service, who, f"template added ({wanted.family.tier.value})", f"{ids}: {wanted.reason}")
    return added


def remove(service: Service, signature_id: str, reason: str, who: str) -> Catalogue:
    """Remove a signature of the catalogue. What it matched stays counted. Raises Problem 404, 409."""

    def write(folder: Path, pipeline: Pipeline) -> Catalogue:
        local = pipeline.catalogue.entries if pipeline.catalogue is not None else ()
        if pipeline.catalogue is None or signature_id not in {entry.signature.facts.id for entry in local}:
            raise Problem(404, "unknown-template", "There is no such signature in the catalogue of this service.")
        return remove_entry(folder, signature_id, pipeline.catalogue.id)

    left = _changed(service, write)
    _note(service, who, "template removed", f"{signature_id}: {reason}")
    return left


def writable(service: Service) -> Path:
    """The folder of the catalogue. Raises Problem 409 where there is none that can be written to."""
    folder = service.settings.catalogue
    if folder is None:
        raise Problem(409, "no-catalogue", NO_CATALOGUE)
    with answering():
        check_room(folder)
    return folder


def _prepared(service: Service, wanted: Wanted, pipeline: Pipeline) -> Addition:
    ordinary = service.settings.ordinary
    if pipeline.catalogue is not None:
        check_encoder(pipeline.catalogue, pipeline.encoder_digest)
    if wanted.family.tier is Tier.EXCLUSIVE and ordinary is None:
        raise Problem(409, "no-ordinary-traffic", NO_ORDINARY)
    samples = wanted.samples_of(pipeline)
    return prepare(samples, wanted.family, [ordinary] if ordinary is not None else [], pipeline)


def looked(service: Service, run: str, top: int) -> Found:
    """The most suspicious findings of a run. Raises Problem 404, 409; 422 where its inputs cannot be read again."""
    with answering():
        return service.discoveries.look(run, service.scorer.pipeline).listed(top)


def samples_of_finding(service: Service, run: str, finding: str) -> Callable[[Pipeline], Prompts]:
    """Samples of what a run shares; asked for, they raise Problem 404 if it shares no such thing."""

    def samples(pipeline: Pipeline) -> Prompts:
        found = service.discoveries.look(run, pipeline).samples(finding, MOST_SAMPLES)
        if found is None:
            raise Problem(404, "unknown-finding", "No finding of this run has this id.")
        return found

    return samples


def _changed(service: Service, write: Callable[[Path, Pipeline], Written]) -> Written:
    """Have a catalogue written beside its newest version, and load it."""
    folder = writable(service)
    with answering(), _changing:
        for left in reversed(range(_TRIES)):
            try:
                written = write(folder, _newest(service))
                break
            except BusyError:
                if not left:
                    raise
        service.reload()
    return written


def _newest(service: Service) -> Pipeline:
    """The pipeline of the newest version on disk: that which is loaded, if no other process wrote since."""
    loaded, folder = service.scorer.pipeline, service.settings.catalogue
    on_disk = open_catalogue(folder) if folder is not None and (folder / INDEX).exists() else None
    known = loaded.catalogue.id if loaded.catalogue is not None else None
    return loaded if known == (on_disk.id if on_disk is not None else None) else load_pipeline(service.settings)


def _note(service: Service, who: str, action: str, subject: str) -> None:
    with service.store.writing() as connection:
        write_audit(connection, who, action, subject)
