"""classifier/exchange.py: what is packed comes back, what is damaged is refused, and no signature file holds text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from classifier.bundle import data_dir, default_bundle_dir, identify
from classifier.errors import InputError
from classifier.exchange import SharedSignature, open_exchange, pack
from classifier.pipeline import Pipeline
from classifier.shingles import shingle_hashes
from classifier.signatures import NAME, Facts
from classifier.signing import Family
from classifier.templates import FACTS_FILE, SHINGLES_FILE, VECTORS_FILE
from classifier.text import normalise_text
from classifier.types import TARGETS, Tier
from service.prompts import Prompts, sample_ordinary
from service.proposals import propose
from tests.forgeries import BELLOWS, QUILL, SLOT_WORDS, fill
from tests.test_catalogue import ENCODER, entry, of_facts

TIERS = (("forge", Tier.PUBLIC), ("grade", Tier.EXCLUSIVE), ("shed", Tier.BENIGN))
TENSOR_NAMES = {"shingles", "offsets", "vectors", "owners"}
OTHER_WORDS = ("brocade", "isthmus", "kumquat", "oubliette", "pumice", "saffron", "thimble", "wheelwright")


def shared(*names: str) -> list[SharedSignature]:
    return [SharedSignature(entry(name, seed=i).signature, 30, 4) for i, name in enumerate(names)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.safetensors"
    path.write_bytes(pack(shared("forge", "kiln"), ENCODER))
    return path


def header(raw: bytes) -> dict[str, Any]:
    return dict(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]))


def document(raw: bytes) -> dict[str, Any]:
    return dict(json.loads(header(raw)["__metadata__"]["probewatch_signatures"]))


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the facts of a file and give it the id of what it then holds."""
    raw = path.read_bytes()
    content = {name: value for name, value in document(raw).items() if name != "exchange_id"}
    change(content)
    told = json.dumps({"exchange_id": identify(content), **content})
    path.write_bytes(save(load(raw), {"probewatch_signatures": told}))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        open_exchange(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and said.endswith(".") and "\n" not in said
    return said


# --- packing and opening ----------------------------------------------------------------------------------------------


def test_what_is_packed_comes_back(file: Path) -> None:
    found = open_exchange(file)
    assert (found.id, found.encoder, len(found.shared)) == (document(file.read_bytes())["exchange_id"], ENCODER, 2)
    for one, other in zip(found.shared, shared("forge", "kiln"), strict=True):
        assert (one.signature.facts, one.n_samples, one.n_accounts) == (other.signature.facts, 30, 4)
        np.testing.assert_array_equal(one.signature.shingles, other.signature.shingles)
        np.testing.assert_array_equal(one.signature.vectors, other.signature.vectors)


def test_equal_content_is_equal_bytes_and_other_content_has_another_id(file: Path) -> None:
    assert pack(shared("forge", "kiln"), ENCODER) == file.read_bytes()
    (fewer,) = [replace(one, n_accounts=3) for one in shared("forge")]
    ids = {document(pack(one, ENCODER))["exchange_id"] for one in (shared("forge"), [fewer], shared("forge", "kiln"))}
    assert len(ids) == 3


def test_another_encoder_s_vectors_are_left_out(file: Path) -> None:
    found = open_exchange(file)
    assert found.fitted(ENCODER) is found
    fitted = found.fitted("f" * 16)
    assert [len(one.signature.vectors) for one in fitted.shared] == [0, 0]
    np.testing.assert_array_equal(fitted.shared[0].signature.shingles, found.shared[0].signature.shingles)


def test_signatures_without_vectors_can_be_passed_on(tmp_path: Path) -> None:
    bare = [replace(one, signature=one.signature.without_vectors()) for one in shared("forge")]
    (tmp_path / "bare").write_bytes(pack(bare, ENCODER))
    assert len(open_exchange(tmp_path / "bare").shared[0].signature.vectors) == 0


def test_shingles_are_hashed_as_documented() -> None:
    def word(letters: str) -> int:
        value = 0
        for byte in letters.encode():
            value = (value * 0x9E3779B97F4A7C15 + byte + 1) % 2**64
        return (value ^ value >> 29) * 0xBF58476D1CE4E5B9 % 2**64

    base, (first, second, third) = 0x94D049BB133111EB, map(word, ("größe", "of", "umbrellas"))
    labeler = pipeline().labeler
    tokens = labeler.encoder.tokenizer.encode([normalise_text("GRÖẞE (of 12 Umbrellas)")])
    found = shingle_hashes(labeler.templates.shingler.words(tokens))
    assert found.tolist() == [((first * base + second) * base + third) % 2**64]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "nowhere")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


def test_a_file_cut_short_is_refused_wherever_it_ends(file: Path) -> None:
    raw = file.read_bytes()
    for size in (0, 7, 8, 100, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:size])
        assert f"it has {size:,} bytes" in refusal(file)
    file.write_bytes(raw + b"\0")
    assert f"it has {len(raw) + 1:,} bytes, expected {len(raw):,}" in refusal(file)


def test_something_else_is_refused(tmp_path: Path) -> None:
    for raw in (b"{}", b"dear colleague, " * 9, save({"rows": np.zeros(3)}), save({}, {"probewatch_signatures": "[]"})):
        (tmp_path / "else").write_bytes(raw)
        assert refusal(tmp_path / "else")


def test_altered_tensors_and_facts_are_refused(file: Path) -> None:
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert "its tensors were altered" in refusal(file)
    file.write_bytes(raw.replace(b'\\"min_hits\\": 5', b'\\"min_hits\\": 1'))
    assert "its facts were altered" in refusal(file)


def test_a_newer_version_is_refused(file: Path) -> None:
    forge(file, lambda content: content.update(format_version=2))
    assert "its format version is 2, expected 1; ask for one that this probewatch reads" in refusal(file)


def test_other_shingles_are_refused(file: Path) -> None:
    forge(file, lambda content: content.update(shingle_words=4))
    assert "its shingles are of 4 words, expected 3" in refusal(file)


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice").write_bytes(pack(shared("forge", "forge"), ENCODER))
    assert "it holds the signature forge/0 more than once" in refusal(tmp_path / "twice")


def test_signatures_are_taken_as_of_another_tier(tmp_path: Path) -> None:
    """What is exclusive to a peer need not be so here; an application stays one."""
    sent = [SharedSignature(of_facts(id=f"{name}/0", family=name, tier=tier).signature, 30, 4) for name, tier in TIERS]
    (tmp_path / "flags").write_bytes(pack(sent, ENCODER))
    exchange = open_exchange(tmp_path / "flags")
    assert [one.signature.facts.tier for one in exchange.shared] == [tier for _, tier in TIERS]
    for wanted in (Tier.PUBLIC, Tier.EXCLUSIVE):
        taken = [one.signature.facts.tier for one in exchange.taken_as(wanted).shared]
        assert taken == [wanted, wanted, Tier.BENIGN]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "Forge Works"}, "a signature's family is no name"),
        ({"id": "forge"}, "is not numbered within its family"),
        ({"technique": "say\nthis"}, "a signature's technique is no name"),
        ({"target": "cooking"}, "aims at what is none of"),
        ({"min_coverage": 0}, "no coverage above 0"),
        ({"n_samples": 0}, "no positive number of samples"),
        ({"n_accounts": True}, "no positive number of samples"),
        ({"example": "Write a poem for my aunt"}, "a signature has 1 fields that are no facts"),
    ],
)
def test_hostile_facts_are_refused(file: Path, change: dict[str, Any], said: str) -> None:
    forge(file, lambda content: content["signatures"][0].update(change))
    assert said in refusal(file)


def test_a_file_that_names_no_encoder_is_refused(file: Path) -> None:
    forge(file, lambda content: content.update(encoder="../../etc"))
    assert "its encoder is no digest" in refusal(file)


# --- no text ----------------------------------------------------------------------------------------------------------


@cache
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


def exported(texts: list[str], accounts: int = 3) -> bytes:
    """The exchange file of what `templates add` makes of prompts."""
    senders = [f"forge-{i % accounts}" for i in range(len(texts))]
    samples = Prompts(texts, [normalise_text(text) for text in texts], senders)
    family = Family("night_mill", "task_synthesis", "coding", Tier.PUBLIC)
    found = propose(samples, family, sample_ordinary(), pipeline().labeler)
    return pack([SharedSignature(p.signature, p.n_samples, p.n_accounts) for p in found], pipeline().encoder_digest)


def other_payloads(texts: list[str]) -> list[str]:
    """The same prompts, every word that fills a slot another one."""
    table = {
        word: OTHER_WORDS[i % len(OTHER_WORDS)] + "qx" * (i // len(OTHER_WORDS)) for i, word in enumerate(SLOT_WORDS)
    }
    return [re.sub("|".join(SLOT_WORDS), lambda met: table[met.group()], text) for text in texts]


@pytest.mark.parametrize(("template", "n"), [(QUILL, 10), (BELLOWS, 10), (QUILL, 40)])
def test_nothing_of_the_slots_is_in_what_is_exported(template: str, n: int) -> None:
    texts = fill(template, n, seed=3)
    others = other_payloads(texts)
    assert not {word for text in texts for word in SLOT_WORDS if word in text} & {w for t in others for w in t.split()}
    assert exported(texts) == exported(others) == exported(fill(template, n, seed=4))


def assert_facts(row: dict[str, Any]) -> None:
    """Names, numbers and members of closed lists, and nothing else."""
    names = [row["family"], *([] if row["technique"] is None else [row["technique"]])]
    assert all(NAME.fullmatch(part) for name in names for part in name.split("/")), names
    assert re.fullmatch(r"\d{1,4}", row["id"].removeprefix(f"{row['family']}/"))
    assert row["target"] in (None, *TARGETS) and Tier(row["tier"])
    assert isinstance(row["min_hits"], int) and isinstance(row["min_coverage"], float)


def test_an_exchange_file_holds_facts_and_digests_and_no_more() -> None:
    raw = exported(fill(QUILL, 10, seed=3))
    head, told = header(raw), document(raw)
    assert head.keys() == {"__metadata__", *TENSOR_NAMES} and head["__metadata__"].keys() == {"probewatch_signatures"}
    assert told.keys() == {"exchange_id", "format_version", "shingle_words", "encoder", "tensors", "signatures"}
    for row in told["signatures"]:
        assert row.keys() == {*Facts.__dataclass_fields__, "n_samples", "n_accounts"}
        assert_facts(row)
    for listed in told["tensors"].values():
        assert listed.keys() == {"dtype", "shape", "sha256"} and re.fullmatch("[0-9a-f]{64}", listed["sha256"])
    words = {word.strip(".,~{}:").lower() for word in QUILL.split()} | set(SLOT_WORDS)
    assert [word for word in words if len(word) > 5 and word.encode() in raw.lower()] == []


def test_the_signature_files_of_the_bundle_hold_facts_and_numbers_and_no_more() -> None:
    folder = default_bundle_dir()
    top, *rows = [json.loads(line) for line in (folder / FACTS_FILE).read_text(encoding="utf-8").splitlines()]
    assert top.keys() == {"version", "shingle_words", "signatures"} and len(rows) == top["signatures"] > 300
    for row in rows:
        assert row.keys() == {*Facts.__dataclass_fields__}
        assert_facts(row)
    raw = (folder / SHINGLES_FILE).read_bytes()
    assert header(raw).keys() == TENSOR_NAMES
    # Letters and spaces make up a fifth of all bytes, so 16 in a row stand in no file of numbers by chance.
    for name in (SHINGLES_FILE, VECTORS_FILE):
        content = (folder / name).read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little") if name == SHINGLES_FILE else 0
        assert re.findall(rb"[A-Za-z ]{16,}", content[begin:]) == []


def test_the_facts_of_families_are_ours_and_hold_no_samples() -> None:
    told = (data_dir() / "templates" / "families.toml").read_text(encoding="utf-8")
    assert not re.search(r"(?m)^(text|sample|example|prompt|wording)s? *=", told)
