"""From a labelled run to wordings that many of its accounts share and no signature explains.

    run (labels), its inputs again -> **discovery** -> findings -> proposals

Labels say which prompts nothing explains; of those, PROMPTS_PER_ACCOUNT distinct ones of each account are read again.
The inputs stream by three times: for their digests, for shingles, and for the texts of what is listed. Memory is
bounded by accounts x PROMPTS_PER_ACCOUNT rows of labels, MOST_SIGHTINGS shingles, a part, and the texts that are
listed. Nothing is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.discovery import Context, Facets, Shared, facets_of, find_shared, ranked
from classifier.errors import BundleError, InputError
from classifier.induction import SHARED_BY, by_two_accounts
from classifier.labeler import Labeler
from classifier.pipeline import Pipeline
from classifier.signing import in_turns
from classifier.text import normalise_text
from classifier.units import microseconds
from service.database import connect, parquet_source, query
from service.finished import input_files, read_wanted
from service.prompts import Prompts, meant_texts
from service.run import LABELS, RunFolder
from service.sightings import Collector, sampled_of
from service.skeleton import skeleton_of
from service.template_checks import best_matches

PROMPTS_PER_ACCOUNT = 32
"""Distinct prompts of an account that are looked at: half drawn at random (by their keyed hash), half those likeliest
to extract."""
MOST_LISTED = 50
"""Findings that are read again."""
LISTED_PROMPTS = 64
"""Prompts of a finding that show its wording."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_UNEXPLAINED_SQL = """
WITH texts AS (
    SELECT account_id, unit, arg_min(event_id, (timestamp, event_id)) AS event_id,
           arg_min(filename, (timestamp, event_id)) AS file, min(timestamp) AS first_seen, max(timestamp) AS last_seen,
           max(p_extraction) AS p_extraction, bool_or(benign_app IS NOT NULL) AS in_application
    FROM {source} WHERE template_id IS NULL AND (benign_app IS NULL OR p_extraction > 0)
    GROUP BY account_id, unit
)
SELECT * FROM texts
QUALIFY row_number() OVER (PARTITION BY account_id ORDER BY unit) <= {half}
     OR row_number() OVER (PARTITION BY account_id ORDER BY p_extraction DESC, unit) <= {half}
ORDER BY file, event_id
"""
"""DuckDB. A prompt that an application's signature explains in full has a p_extraction of 0."""


@dataclass(frozen=True)
class Finding:
    """A wording that accounts share.

    Attributes:
        id: the same whenever the run is asked, whatever signatures were added since.
        rank: 1 is the most suspicious.
        first_seen, last_seen: of the prompts looked at.
        n_shingles: runs of three words that are constant.
        wording: the constant part of a prompt, slots as …, of what prompts of two accounts say. For the analyst's eyes.
    """

    id: str
    rank: int
    facets: Facets
    first_seen: datetime
    last_seen: datetime
    n_shingles: int
    wording: str


@dataclass(frozen=True)
class Found:
    """What was looked at, and found. `n_known`: wordings left out because a signature added since explains them."""

    n_accounts: int
    n_prompts: int
    n_known: int
    findings: list[Finding]


class _Candidate(NamedTuple):
    id: str
    shared: Shared
    facets: Facets


class Discovery:
    """The unexplained prompts of a run, and the wordings they share.

    `n_accounts` that sent them; `context` of each; `wordings` and their `facets`, in the order of being found.
    """

    def __init__(self, run: RunFolder, pipeline: Pipeline, paths: Sequence[str]) -> None:
        """Raises BundleError for a run of another bundle; InputError if inputs are gone or have changed."""
        if run.settings.bundle_id != pipeline.bundle_id:
            raise BundleError(
                f"{run.path}: was labelled with bundle {run.settings.bundle_id}, this is {pipeline.bundle_id}; give "
                "the bundle it was labelled with as --bundle, or label again."
            )
        self._run, self._labeler = run, pipeline.labeler
        self._files = input_files(run, paths)
        self._rows = _unexplained(run)
        names, account = np.unique(self._rows["account_id"].to_numpy(), return_inverse=True)
        self.n_accounts = len(names)
        first, last = (microseconds(self._rows[name]) for name in ("first_seen", "last_seen"))
        p_extraction = self._rows["p_extraction"].to_numpy()
        self.context = Context(account, self._rows["unit"].to_numpy(), p_extraction, np.stack([first, last], axis=1))
        self.wordings, self.facets = self._look()
        order = ranked(self.wordings, [facets.strength for facets in self.facets])
        self._candidates = [_Candidate(_id_of(self.wordings[i]), self.wordings[i], self.facets[i]) for i in order]

    def listed(self, top: int) -> Found:
        """The most suspicious wordings that the present signatures do not explain."""
        candidates = self._candidates[:MOST_LISTED]
        chosen = [in_turns(candidate.shared.prompts, self.context.account)[:LISTED_PROMPTS] for candidate in candidates]
        texts = self._texts(np.unique(np.concatenate([np.empty(0, np.int64), *chosen])))
        findings, n_known = list[Finding](), 0
        for candidate, rows in zip(candidates, chosen, strict=True):
            prompts = self._prompts(rows, texts)
            if self._is_known(candidate.shared, prompts):
                n_known += 1
            elif len(findings) < top:
                findings.append(self._described(candidate, len(findings) + 1, prompts))
        return Found(self.n_accounts, len(self._rows), n_known, findings)

    def samples(self, id: str, most: int) -> Prompts | None:
        """Up to so many prompts of a finding, accounts in turn; None if there is no such finding."""
        for candidate in self._candidates:
            if candidate.id == id:
                rows = in_turns(candidate.shared.prompts, self.context.account)[:most]
                return self._prompts(rows, self._texts(rows)).distinct()
        return None

    def event_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Of prompts looked at."""
        return list(self._rows["event_id"].take(pa.array(rows)).to_pylist())

    def _look(self) -> tuple[list[Shared], list[Facets]]:
        sightings = Collector(self._labeler)
        in_application = self._rows["in_application"].to_numpy()
        for rows, texts in self._read(np.arange(len(self._rows))):
            sightings.add(rows, [normalise_text(text) for text in texts], in_application[rows])
        seen = sightings.seen(self.context.account)
        found = find_shared(seen)
        return found, [facets_of(shared, self.context, sightings.kept) for shared in found]

    def _read(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        """(rows, scored texts) of some rows, part by part."""
        files, part = np.unique(self._rows["file"].to_numpy()[rows], return_inverse=True)
        places = np.split(
            rows[np.argsort(part, kind="stable")], np.cumsum(np.bincount(part, minlength=len(files)))[:-1]
        )
        by_part = {Path(name).stem: chosen for name, chosen in zip(files.tolist(), places[: len(files)], strict=True)}
        ids = self._rows["event_id"].combine_chunks()
        for file in self._files:
            wanted = {part_id for part_id in by_part if part_id.startswith(file.digest[:16])}
            for one in read_wanted(file, self._run, wanted):
                chosen = by_part[one.part_id]
                found = pc.index_in(ids.take(pa.array(chosen)), one.events["event_id"])
                if found.null_count:
                    raise InputError(f"{file.path}: does not read as it did when it was labelled; label it again.")
                yield chosen, meant_texts(one.events.take(found))

    def _texts(self, rows: NDArray[np.int64]) -> dict[int, str]:
        return {row: text for part, texts in self._read(rows) for row, text in zip(part.tolist(), texts, strict=True)}

    def _prompts(self, rows: NDArray[np.int64], texts: dict[int, str]) -> Prompts:
        chosen = [texts[row] for row in rows.tolist()]
        accounts = self._rows["account_id"].take(pa.array(rows)).to_pylist()
        return Prompts(chosen, [normalise_text(text) for text in chosen], accounts)

    def _is_known(self, shared: Shared, prompts: Prompts) -> bool:
        """Whether most of the wording is in signatures that its prompts match: one was added since the run was
        labelled."""
        index = self._labeler.templates
        best = np.unique(best_matches(index, prompts.normalised, self._labeler.encoder))
        known = [index.signatures[i].shingles for i in best[best >= 0].tolist()]
        return bool(np.isin(shared.shingles, np.concatenate([np.empty(0, np.uint64), *known])).mean() > 1 / 2)

    def _described(self, candidate: _Candidate, rank: int, prompts: Prompts) -> Finding:
        constant = _constant(prompts, self._labeler)
        us = self.context.us[candidate.shared.prompts]
        return Finding(
            id=candidate.id,
            rank=rank,
            facets=candidate.facets,
            first_seen=_EPOCH + timedelta(microseconds=int(us.min())),
            last_seen=_EPOCH + timedelta(microseconds=int(us.max())),
            n_shingles=len(constant),
            wording=skeleton_of(constant, prompts.texts, self._labeler),
        )


def _unexplained(run: RunFolder) -> pa.Table:
    """Distinct prompts that nothing explains, PROMPTS_PER_ACCOUNT of each account at most, by part and event."""
    source = parquet_source(run.files(LABELS))[:-1] + ", filename = true)"
    with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as db:
        try:
            return query(db, _UNEXPLAINED_SQL.format(source=source, half=PROMPTS_PER_ACCOUNT // 2))
        except duckdb.Error as error:
            raise InputError(
                f"{run.path}: its labels cannot be read ({type(error).__name__}); label again with --fresh."
            ) from error


def _constant(prompts: Prompts, labeler: Labeler) -> NDArray[np.uint64]:
    """Shingles that most of the prompts hold, those of two accounts among them."""
    sampled = sampled_of(prompts.normalised, labeler)
    shingles, code = np.unique(sampled.shingle, return_inverse=True)
    by_two = by_two_accounts(code, prompts.account_numbers()[sampled.sample], len(shingles))
    return shingles[by_two & (np.bincount(code, minlength=len(shingles)) >= SHARED_BY * len(prompts))]


def _id_of(shared: Shared) -> str:
    return blake2b(np.sort(shared.shingles).tobytes(), digest_size=5).hexdigest()
