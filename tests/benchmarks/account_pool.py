"""The texts that worlds draw from: rows that the bundle has never seen, labelled once by the product's own pipeline.

    held-out rows -> **pool** (labels and units of every text, who sends it) -> worlds

A world's units are rows of the pool's, with another account, time and event: what a text is labelled does not hang on
who sends it, so labelling once is the same as labelling every event. A test holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from classifier.bundle import data_dir
from classifier.evidence import Baselines
from classifier.pipeline import Pipeline
from classifier.text import normalise_text
from classifier.types import CAPABILITIES, EVENT_SCHEMA, TARGETS, UNIT_SCHEMA, Channel
from tests.benchmarks.account_bundle import SEED, Split

MOST_ROWS = 1500
LEAST_ROWS = 30
"""Of a family or data set that accounts draw from."""
WRITTEN = 60
"""Prompts made of each family whose text is ours, for every label of payload."""
UNKNOWN = -1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """n texts. `facts`: columns role, part, source, kind, organic, conversation, known (the family is registered),
    tier, aim (TARGETS, or "none" for a technique) and truth (index into TARGETS of what is asked for, or UNKNOWN).

    `signature`: unit rows of the signature channel, [n]; `intent`: those of the intent channel, and `intent_row` [n]
    their place, -1 for texts that have none. `embeddings` [n, d], of unit length.
    """

    facts: pd.DataFrame
    signature: pa.Table
    intent: pa.Table
    intent_row: Ints
    embeddings: NDArray[np.float32]
    p_extraction: Floats
    capability: Ints
    baselines: Baselines
    n_families: int

    def rows(self, **wanted: object) -> Ints:
        """Texts whose facts are these."""
        chosen = np.ones(len(self.facts), bool)
        for name, value in wanted.items():
            chosen &= (self.facts[name] == value).to_numpy()
        return np.flatnonzero(chosen)

    def units(self, row: Ints, account: pa.Array, us: Ints) -> pa.Table:
        """Unit rows, not yet merged, of events that send texts `row`."""
        ids = pa.array(np.arange(len(row))).cast(pa.string())
        open_ended = np.flatnonzero(self.intent_row[row] >= 0)
        own = _sent(self.signature.take(pa.array(row)), account, us, ids)
        places = pa.array(open_ended)
        theirs = self.intent.take(pa.array(self.intent_row[row[open_ended]]))
        return pa.concat_tables([own, _sent(theirs, account.take(places), us[open_ended], ids.take(places))])


def _sent(units: pa.Table, account: pa.Array, us: Ints, ids: pa.Array) -> pa.Table:
    told = {
        "account_id": account,
        "timestamp": pa.array(us).cast(UNIT_SCHEMA.field("timestamp").type),
        "event_id": ids,
    }
    columns = [told.get(name, units[name]) for name in UNIT_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=UNIT_SCHEMA)


def make_pool(rows: pd.DataFrame, parts: Split, bundle: Path) -> Pool:
    """Label what the bundle has never seen."""
    return label_pool(held_out(rows, parts), Pipeline.load(bundle))


def label_pool(facts: pd.DataFrame, pipeline: Pipeline) -> Pool:
    """Label the column `whole`; the others are kept."""
    labelled = pipeline.label(_events(facts["whole"]))
    signature = labelled.units.filter(pc.field("channel") == Channel.SIGNATURE)
    intent = labelled.units.filter(pc.field("channel") == Channel.INTENT)
    place = np.full(len(facts), -1)
    place[np.array(intent["event_id"].to_pylist(), np.int64)] = np.arange(intent.num_rows)
    encode = pipeline.labeler.encoder.encode
    normal = [normalise_text(text) for text in facts["whole"]]
    embeddings = np.concatenate([encode(normal[i : i + 512]).views[:, 0] for i in range(0, len(normal), 512)])
    labels = labelled.labels
    return Pool(
        facts=facts.drop(columns="whole"),
        signature=signature.combine_chunks(),
        intent=intent.combine_chunks(),
        intent_row=place,
        embeddings=embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9),
        p_extraction=labels["p_extraction"].to_numpy().astype(float),
        capability=np.array([TARGETS.index(name) for name in labels["capability"].to_pylist()]),
        baselines=pipeline.baselines,
        n_families=pipeline.n_families,
    )


def _events(texts: Sequence[str]) -> pa.RecordBatch:
    n = len(texts)
    columns = [
        pa.array([str(i) for i in range(n)]),
        pa.array(["pool"] * n),
        pa.array(np.arange(n)).cast(EVENT_SCHEMA.field("timestamp").type),
        pa.nulls(n, pa.string()),
        pa.array(texts, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


# --- what is held out -------------------------------------------------------------------------------------------------


def held_out(rows: pd.DataFrame, parts: Split) -> pd.DataFrame:
    """The texts of a pool: at most MOST_ROWS of a part but for people, no text twice in one, and prompts of our own
    families."""
    from training.prepare import EXTRACTION, PROMPT

    held = rows[(parts.unseen | parts.fresh) & ~rows["train_only"].astype(bool)]
    shuffled = held.sample(frac=1, random_state=SEED)
    few = (shuffled.groupby(["role", "part"]).cumcount() < MOST_ROWS) | shuffled["organic"].astype(bool)
    held = held.loc[shuffled.index[few].sort_values()]
    held = held.assign(known=parts.fresh[held.index])
    facts = _family_facts()
    extraction = held["role"] == EXTRACTION
    held["tier"] = held["part"].where(extraction).map(facts["tier"]).fillna("")
    held["aim"] = held["part"].where(extraction).map(facts["aim"]).fillna("")
    held["truth"] = _truths(held, rows[(rows["role"] == PROMPT) & (rows["lesson"] != "")])
    columns = ["whole", "role", "part", "source", "kind", "organic", "conversation", "known", "tier", "aim", "truth"]
    both = pd.concat([held[columns], written(held[held["role"] == PROMPT])[columns]], ignore_index=True)
    return both[~both.duplicated(["part", "whole"])].reset_index(drop=True)


def _family_facts() -> pd.DataFrame:
    from training.signatures import read_families

    templates = data_dir() / "templates"
    families = [*read_families(templates / "families.toml"), *read_families(templates / "own.toml")]
    aims = [family.target if family.target is not None else "none" for family in families]
    return pd.DataFrame({"tier": [str(f.tier) for f in families], "aim": aims}, index=[f.name for f in families])


def _truths(held: pd.DataFrame, labelled: pd.DataFrame) -> Ints:
    """What is asked for: the family's aim, or for a technique the label of a prompt with the same payload."""
    from training.prepare import payload_buckets

    keys = payload_buckets(labelled.reset_index(drop=True), 2**31)
    of_payload = pd.Series(labelled["lesson"].to_numpy()).groupby(keys).agg(lambda labels: labels.mode().iloc[0])
    technique = (held["aim"] == "none").to_numpy()
    truth = np.array([TARGETS.index(aim) if aim in TARGETS else UNKNOWN for aim in held["aim"]])
    payload = pd.Series(payload_buckets(held[technique].reset_index(drop=True), 2**31)).map(of_payload)
    truth[technique] = [TARGETS.index(label) if isinstance(label, str) else UNKNOWN for label in payload]
    return truth


def written(prompts: pd.DataFrame) -> pd.DataFrame:
    """Prompts of the families whose text is ours, filled with payloads never seen, so that the truth of a technique is
    known."""
    from training.signatures import written_samples

    facts, made = _family_facts(), []
    for number, label in enumerate(CAPABILITIES):
        payloads = prompts["whole"][(prompts["lesson"] == label) & (prompts["whole"].str.len() > 60)].str.slice(0, 500)
        texts = written_samples(data_dir() / "templates" / "own.toml", payloads.tolist(), WRITTEN, SEED + number)
        for family, samples in texts.items():
            aim = facts["aim"][family]
            truth = number if aim == "none" else TARGETS.index(aim)
            made.append(pd.DataFrame({"whole": samples, "part": family, "aim": aim, "truth": truth}))
    own = pd.concat(made, ignore_index=True)
    told = {"role": "written", "source": "written", "kind": "", "organic": False, "conversation": "", "known": True}
    return own.assign(tier=own["part"].map(facts["tier"]), **told)
