"""service/proposals.py: signatures from an analyst's prompts, how well they find the template, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from classifier.bundle import data_dir, default_bundle_dir
from classifier.errors import InputError, UsageError
from classifier.induction import Sampled, find_clusters
from classifier.pipeline import Pipeline
from classifier.shingles import SHINGLE_WORDS, shingle_hashes
from classifier.signatures import Signature
from classifier.signing import Family, _constant_text, in_turns
from classifier.templates import TemplateIndex
from classifier.text import normalise_text
from classifier.types import Tier
from service.admission import MOST_ORDINARY, InOrdinary
from service.prompts import Prompts, joined_prompts, read_ordinary, read_prompts, sample_ordinary
from service.proposals import Proposal, propose
from service.skeleton import skeleton_of
from service.template_checks import collisions, excused, match_counts
from service.template_words import proposal_lines
from tests.forgeries import ASKS, BELLOWS, QUILL, SLOT_WORDS, fill

FORGE = Family("night_mill", "task_synthesis", "coding", Tier.PUBLIC)
SHOP = Family("tile_shop", None, None, Tier.BENIGN)
CLERK = (
    "You look after parcels at a tile depot. Quote only the shelf plan that follows, in two short lines, and hand over "
    "to the foreman whenever somebody mentions breakage.\n{a}\nVisitor: {b}"
)


@cache
def pipeline() -> Pipeline:
    return Pipeline.load(default_bundle_dir())


@cache
def ordinary() -> Prompts:
    return sample_ordinary()


def prompts(texts: list[str], accounts: int = 4) -> Prompts:
    names = [f"forge-{i % accounts}" for i in range(len(texts))]
    return Prompts(texts, [normalise_text(text) for text in texts], names)


def proposed(texts: list[str], family: Family = FORGE, accounts: int = 4) -> list[Proposal]:
    return propose(prompts(texts, accounts), family, ordinary(), pipeline().labeler)


def refused(texts: list[str], family: Family = FORGE, accounts: int = 4) -> str:
    with pytest.raises(InputError) as error:
        proposed(texts, family, accounts)
    said = str(error.value)
    assert said.endswith(".") and "\n" not in said
    assert not [word for word in (*SLOT_WORDS, "workshop", "gadgets") if word in said]
    return said


def with_proposals(found: list[Proposal]) -> TemplateIndex:
    return pipeline().labeler.templates.with_signatures([one.signature for one in found])


def n_words(text: str) -> int:
    return len(normalise_text(text).replace("~", " ").replace("-", " ").split())


# --- what is induced --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("template", "n"), [(QUILL, 30), (BELLOWS, 30), (QUILL, 6), (BELLOWS, 500)])
def test_later_uses_are_found_and_ordinary_traffic_is_not(template: str, n: int) -> None:
    (found,) = proposed(fill(template, n, seed=1))
    assert (found.n_samples, found.n_accounts, found.found, found.known_as) == (n, 4, 1, None)
    assert found.ordinary == InOrdinary(1276, 35, 0, 0.0) and found.ordinary.share == 0
    index, encoder = with_proposals([found]), pipeline().labeler.encoder
    number = len(index.signatures) - 1
    later = [normalise_text(text) for text in fill(template, 200, seed=99)]
    assert match_counts(index, later, encoder)[number] >= 0.98 * len(later)
    assert match_counts(index, ordinary().normalised, encoder)[number] == 0


@pytest.mark.parametrize("disguise", ["shouted", "wrapped", "halved", "dropped"])
def test_later_uses_are_found_in_disguise(disguise: str) -> None:
    index = with_proposals(proposed(fill(QUILL, 30, seed=1)))
    later = {
        "shouted": lambda text: text.upper(),
        "wrapped": lambda text: f"{ASKS[0]}\n> {text}\n{ASKS[1]}",
        "halved": lambda text: text[: len(text) * 6 // 10],
        "dropped": lambda text: " ".join(word for i, word in enumerate(text.split()) if i % 8 != 5),
    }[disguise]
    texts = [normalise_text(later(text)) for text in fill(QUILL, 100, seed=7)]
    assert match_counts(index, texts, pipeline().labeler.encoder)[-1] >= 98


def test_the_signature_is_the_constant_part_and_no_more() -> None:
    (found,) = proposed(fill(QUILL, 30, seed=1))
    parts = [part for part in QUILL.replace("{b}.", "{b}").replace("{b}", "{a}").split("{a}") if part]
    expected = sum(n_words(part) - SHINGLE_WORDS + 1 for part in parts)
    assert len(found.signature.shingles) == expected
    facts = found.signature.facts
    assert (facts.id, facts.family, facts.technique, facts.target, facts.tier) == (
        "night_mill/0",
        "night_mill",
        "task_synthesis",
        "coding",
        Tier.PUBLIC,
    )
    assert facts.min_hits == round(0.15 * expected)


def test_the_skeleton_shows_the_wording_and_none_of_the_slots() -> None:
    (found,) = proposed(fill(QUILL, 30, seed=1))
    parts = QUILL.replace("{b}", "{a}").split("{a}")
    before, between, _ = (" ".join(part.replace("~", " ").split()).rstrip(".") for part in parts)
    shown = " ".join(found.skeleton.replace("~", " ").split())
    assert shown == f"{before} … {between} …"
    assert not [word for word in SLOT_WORDS if word in found.skeleton]


def test_two_templates_in_one_file_are_two_signatures() -> None:
    found = proposed([*fill(QUILL, 20, seed=1), *fill(BELLOWS, 14, seed=2), *ASKS])
    assert [one.signature.facts.id for one in found] == ["night_mill/0", "night_mill/1"]
    assert [(one.n_samples, one.found) for one in found] == [(20, 1), (14, 1)]
    assert "workshop" in found[0].skeleton and "gadgets" in found[1].skeleton
    index, encoder = with_proposals(found), pipeline().labeler.encoder
    for number, template in ((-2, QUILL), (-1, BELLOWS)):
        later = [normalise_text(text) for text in fill(template, 100, seed=5)]
        assert match_counts(index, later, encoder)[number] >= 98


def test_what_one_account_alone_says_is_left_out_however_often() -> None:
    texts = fill(QUILL, 32, seed=1)
    own = "Kindly address me as Commodore Featherstonehaugh throughout this correspondence."
    said = [f"{text}\n{own}" if i < 26 else text for i, text in enumerate(texts)]
    names = ["forge-0" if i < 26 else "forge-1" for i in range(32)]
    found = []
    for sent in (said, texts):
        samples = replace(prompts(sent), accounts=names)
        found += propose(samples, FORGE, ordinary(), pipeline().labeler)
    with_own, without = found
    np.testing.assert_array_equal(with_own.signature.shingles, without.signature.shingles)
    assert "Commodore" not in with_own.skeleton


def test_a_wording_that_one_account_alone_sends_whole_is_left_out() -> None:
    words = BELLOWS.replace("{a}", "").replace("{b}", "").split()
    quotes = [" ".join(words[i : i + 22]) for i in range(0, len(words), 20)]  # each less than half of it
    texts = [*fill(BELLOWS, 10, seed=1), *quotes]
    samples = replace(prompts(texts), accounts=["forge-0"] * 10 + ["forge-1"] * len(quotes))
    with pytest.raises(InputError, match=r"The 1[0-9] samples of 2 accounts have nothing in common"):
        propose(samples, FORGE, ordinary(), pipeline().labeler)


def test_an_application_is_excused() -> None:
    (found,) = proposed(fill(CLERK, 20, seed=1), SHOP)
    facts = found.signature.facts
    assert (facts.tier, facts.technique, facts.target, facts.min_coverage) == (Tier.BENIGN, None, None, 0.3)
    index, encoder = with_proposals([found]), pipeline().labeler.encoder
    matches = index.match(encoder.encode([normalise_text(text) for text in fill(CLERK, 50, seed=9)]))
    np.testing.assert_array_equal(matches.benign, len(index.signatures) - 1)
    np.testing.assert_array_equal(matches.index, -1)


def test_what_ordinary_prompts_quote_raises_what_a_match_takes() -> None:
    (quiet,) = proposed(fill(QUILL, 30, seed=1))
    words = QUILL.split("Invent")[1].split()
    quote = " ".join(["Invent", *words[:10]])  # 9 shingles, more than a match takes
    quoting = joined_prompts([ordinary(), prompts([f"{' '.join(ASKS)} {quote}"] * 5, accounts=1)])
    (raised,) = propose(prompts(fill(QUILL, 30, seed=1)), FORGE, quoting, pipeline().labeler)
    assert quiet.signature.facts.min_hits < 9 and raised.signature.facts.min_hits == 9 + 2
    assert (raised.found, raised.ordinary.share) == (1, 5 / len(quoting))  # the vector index vouches for them
    for one, n in ((quiet, 5), (raised, 0)):
        blind = replace(one, signature=replace(one.signature, vectors=one.signature.vectors[:0]))
        assert match_counts(with_proposals([blind]), quoting.normalised, pipeline().labeler.encoder)[-1] == n


# --- what is refused --------------------------------------------------------------------------------------------------


def test_too_few_and_too_many_are_refused() -> None:
    assert refused(fill(QUILL, 4, seed=1)).startswith("The samples are 4 distinct prompts: expected 5 to 500")
    said = refused(fill(QUILL, 501, seed=1))
    assert said.startswith("The samples are more than 500 distinct prompts: expected 5 to 500")


def test_one_account_is_refused() -> None:
    assert refused(fill(QUILL, 30, seed=1), accounts=1).startswith("The 30 samples are all of one account: expected")


def test_nothing_in_common_is_refused() -> None:
    assert refused([*ASKS]) == (
        "The 12 samples of 4 accounts have nothing in common: expected a wording of 4 runs of three words that "
        "at least 3 prompts of two accounts have, found none that two accounts share; give samples of one campaign."
    )
    few = [*fill(QUILL, 2, seed=1), *ASKS]
    assert "found the commonest run in 2" in refused(few)


def test_what_ordinary_accounts_say_too_is_refused() -> None:
    sent = joined_prompts([ordinary(), prompts(fill(QUILL, 6, seed=8), accounts=2)])
    with pytest.raises(InputError, match="two ordinary accounts hold these too"):
        propose(prompts(fill(QUILL, 30, seed=1)), FORGE, sent, pipeline().labeler)


def test_a_signature_that_matches_ordinary_traffic_is_refused_with_the_figure() -> None:
    shared = prompts(fill(QUILL, 20, seed=8), accounts=1)  # one ordinary account, or the wording would count as common
    sent = joined_prompts([ordinary(), shared])
    share = 100 * len(shared) / len(sent)
    assert 1 <= share < 2
    with pytest.raises(InputError, match=rf"night_mill/0 would match {share:.1f}\W% of {len(sent):,} ordinary prompts"):
        propose(prompts(fill(QUILL, 30, seed=1)), FORGE, sent, pipeline().labeler)


def test_the_sample_s_own_applications_are_refused() -> None:
    truth = json.loads((data_dir() / "sample" / "truth.json").read_text())["accounts"]
    (support,) = (name for name, account in truth.items() if account["kind"] == "app_support")
    sent = [text for text, account in zip(ordinary().texts, ordinary().accounts, strict=True) if account == support]
    assert "of 1,276 ordinary prompts" in refused(sent[:50])


def test_a_family_that_is_known_is_refused() -> None:
    known = pipeline().labeler.templates.signatures[0].facts.family
    with pytest.raises(UsageError, match=f"--family got {known}: a family of that name is known already"):
        proposed(fill(QUILL, 30, seed=1), Family(known, None, None, Tier.PUBLIC))


def test_a_template_that_is_known_is_refused() -> None:
    sent = joined_prompts(list(read_prompts([str(data_dir() / "sample" / "traffic.jsonl")])))
    index, encoder = pipeline().labeler.templates, pipeline().labeler.encoder
    matched = index.match(encoder.encode(sent.normalised)).index
    number = [one.facts.family for one in index.signatures].index("pw_seeded_code")
    chosen = sent.where((matched == number).tolist())
    with pytest.raises(InputError, match=r"found in 0\W% of its own .*most others match pw_seeded_code already"):
        propose(chosen.distinct(), FORGE, ordinary(), pipeline().labeler)


@pytest.mark.parametrize(
    ("found", "known", "refused"), [(1.0, 0.0, False), (0.5, 0.0, False), (0.4, 0.0, True), (0.2, 0.6, False)]
)
def test_what_no_known_signature_matches_must_be_found_for_half(found: float, known: float, refused: bool) -> None:
    from service.proposals import _refuse_unfound

    (proposal,) = proposed(fill(QUILL, 30, seed=1))
    changed = [replace(proposal, found=found, known=known, known_as="forge" if known else None)]
    if refused:
        with pytest.raises(InputError, match=r"found in 40\W% of its own 30 samples: expected 50\W% of those that no"):
            _refuse_unfound(changed)
    else:
        _refuse_unfound(changed)


def test_an_application_that_would_excuse_a_template_is_refused() -> None:
    (known,) = proposed(fill(QUILL, 30, seed=1))
    labeler = Pipeline.load(default_bundle_dir()).labeler
    labeler.templates = labeler.templates.with_signatures([known.signature])
    with pytest.raises(InputError, match=r"would excuse 100\W% of night_mill/0, of which 0 runs .* the 6 that a match"):
        propose(prompts(fill(QUILL, 20, seed=2)), SHOP, ordinary(), labeler)


def test_an_application_must_leave_enough_of_a_template() -> None:
    (known,) = proposed(fill(QUILL, 30, seed=1))
    begins, most_of = f"{QUILL.split('{a}')[0]} {{a}}", f"{QUILL.split('{a}')[1].split('numbered')[0]} {{a}}"
    (opening,), (middle,) = (proposed(fill(f"{CLERK} {part}", 20, seed=2), SHOP) for part in (begins, most_of))
    size = len(known.signature.shingles)

    def at(min_hits: int, min_coverage: float = 0.03) -> list[Signature]:
        facts = replace(known.signature.facts, min_hits=min_hits, min_coverage=min_coverage)
        return [replace(known.signature, facts=facts)]

    (lost,) = excused(opening.signature, at(size))
    shared = size - lost.left
    assert 5 <= shared <= size // 2 and lost.share == shared / size and lost.known.id == "night_mill/0"
    assert excused(opening.signature, at(size - shared)) == []  # what is left is a match
    assert len(excused(opening.signature, at(size - shared + 1))) == 1
    assert len(excused(opening.signature, at(6, (size - shared + 1) / size))) == 1
    (most,) = excused(middle.signature, at(6))
    assert 0.5 < most.share < 0.8 and most.left > 6
    harmless = replace(known.signature, facts=replace(known.signature.facts, tier=Tier.BENIGN, min_hits=size))
    assert excused(opening.signature, [harmless]) == []
    labeler = Pipeline.load(default_bundle_dir()).labeler
    labeler.templates = labeler.templates.with_signatures(at(size))
    said = rf"would excuse {100 * lost.share:.0f}\W% of night_mill/0, of which {lost.left} runs of three words would"
    with pytest.raises(InputError, match=said):
        propose(prompts(fill(f"{CLERK} {begins}", 20, seed=2)), SHOP, ordinary(), labeler)


# --- who said it ------------------------------------------------------------------------------------------------------

SECRET = "My late father's hangar in Reykholt still leaks whenever the northern gales arrive"
DECOYS = [
    "My second cousin's bakery in Maastricht always smells of cardamom before the dawn",
    "Our retired postman's orchard near Toledo never ripens until the autumn rains come",
    "Her younger nephew's violin in Tallinn often squeaks whenever the humid evenings fall",
    "Their former landlord's kiosk in Nairobi rarely opens while the marathon runners pass",
    *ASKS,
]


def cosines(found: Proposal, texts: list[str]) -> np.ndarray:
    """Of each text and the nearest vector of a signature."""
    embedded = pipeline().labeler.encoder.encode([normalise_text(text) for text in texts]).embeddings
    return (embedded @ found.signature.vectors.T).max(axis=1)


@pytest.mark.parametrize("accounts", [2, 4])
def test_the_vectors_do_not_tell_what_one_account_says(accounts: int) -> None:
    names = [f"forge-{i % accounts}" for i in range(40)]
    plain = fill(QUILL, 40, seed=1)
    said = [f"{text}\n{SECRET}." if name == "forge-0" else text for text, name in zip(plain, names, strict=True)]
    with_it, without = (
        propose(replace(prompts(texts), accounts=names), FORGE, ordinary(), pipeline().labeler)[0]
        for texts in (said, plain)
    )
    np.testing.assert_array_equal(with_it.signature.vectors, without.signature.vectors)
    secret, *decoys = cosines(with_it, [SECRET, *DECOYS]).tolist()
    assert secret <= max(decoys)


def test_the_vectors_do_not_tell_what_stands_in_slots() -> None:
    told = ("marmot", "cinnabar", "trombone", "juniper", "flagstone", "periwinkle")
    decoys = [
        "verdigris",
        "wheelbarrow",
        "xylophone",
        "copperplate",
        "blackthorn",
        "catamaran",
        "rutabaga",
        "astrolabe",
    ]

    def filled(words: Sequence[str]) -> Proposal:
        (found,) = proposed([QUILL.replace("{a}", " ".join([word] * 30)).replace("{b}", word) for word in words])
        return found

    found = filled(told)
    np.testing.assert_array_equal(found.signature.vectors, filled(decoys[:6]).signature.vectors)
    above = cosines(found, list(told))[:, None] > cosines(found, decoys)
    assert 0.25 < above.mean() < 0.75  # a slot's word is as likely above a decoy as below it


def test_the_skeleton_ends_where_a_word_is_longer_than_its_hash_tells() -> None:
    """The hash of a long word is of its first tokens, so two accounts' may differ in what follows."""
    keys = ["qzxvkjwqzxvkjwqzxvkjwqzxvkjw" + tail for tail in ("mulberry", "hazelnut")]
    texts = [f"please keep the token {key} under the heavy oak lid" for key in keys for _ in range(3)]
    labeler = pipeline().labeler
    words = labeler.templates.shingler.words(labeler.encoder.tokenizer.encode(texts))
    assert words.hashes[4] == words.hashes[3 * len(words.hashes) // 6 + 4]  # alike to the hash
    shown = skeleton_of(shingle_hashes(words), texts, labeler)
    assert shown.startswith("please keep the token qz") and shown.endswith("… under the heavy oak lid")
    assert "mulberry" not in shown and "hazelnut" not in shown


def test_members_are_embedded_accounts_in_turn() -> None:
    members, accounts = np.array([0, 1, 3, 4, 5, 6]), np.array([2, 2, 0, 2, 0, 1, 0])
    assert in_turns(members, accounts).tolist() == [4, 5, 0, 6, 1, 3]


def test_only_hashed_letters_are_embedded() -> None:
    labeler = pipeline().labeler
    (found,) = proposed(fill(QUILL, 30, seed=1))
    text = normalise_text(fill(QUILL, 1, seed=9)[0].replace("scrap of workshop", "scrap — 4711 — of (workshop"))
    tokens = labeler.encoder.tokenizer.encode([text])
    shingler = labeler.templates.shingler
    told = _constant_text(tokens.ids, found.signature.shingles, labeler.encoder.tokenizer, shingler)
    expected = " ".join(re.sub(r"[^a-z]+", " ", part.lower()) for part in QUILL.replace("{b}.", "").split("{a}"))
    assert told.split() == expected.split()


def test_each_wording_keeps_what_two_of_its_own_accounts_say() -> None:
    """One account says a sentence in one campaign's prompts, another in the other's."""
    own = "Kindly address me as Commodore Featherstonehaugh throughout this correspondence."
    mill = [f"{text}\n{own}" if i % 4 else text for i, text in enumerate(fill(QUILL, 40, seed=1))]
    shed = [f"{text}\n{own}" if i % 4 == 0 else text for i, text in enumerate(fill(BELLOWS, 40, seed=2))]
    names = [
        *("forge-0" if i % 4 else "forge-1" for i in range(40)),
        *("forge-2" if i % 4 == 0 else "forge-3" for i in range(40)),
    ]
    found = propose(replace(prompts([*mill, *shed]), accounts=names), FORGE, ordinary(), pipeline().labeler)
    assert len(found) == 2
    assert not [one for one in found if "Commodore" in one.skeleton]


def shingled(texts: list[str]) -> Sampled:
    labeler = pipeline().labeler
    return Sampled.of(labeler.templates.shingler.words(labeler.encoder.tokenizer.encode(texts)))


def test_a_pool_keeps_what_two_of_its_own_accounts_say() -> None:
    rng = np.random.default_rng(5)
    endings = ("uffle", "andle", "iggin", "ostrel", "empet", "ardock")
    sentences = [" ".join(f"{letter}{ending}" for ending in endings) for letter in "bcdfghklmnprstvwjyxq"]
    own = "zeffle zandle ziggin zostrel zempet zardock zillow"
    texts = [" ; ".join(rng.choice(sentences, 4, replace=False)) for _ in range(60)]
    accounts = [i % 6 for i in range(60)]
    said = [f"{text} ; {own}" if account == 0 else text for text, account in zip(texts, accounts, strict=True)]
    quotes = [" ".join(own.split()[i : i + 4]) for i in range(4)]  # two shingles each: too few to be of the pool
    sampled = shingled([*said, *quotes])
    (found,) = find_clusters(sampled, np.empty(0, np.uint64), 5, np.array([*accounts, 9, 9, 9, 9]))
    assert found.pooled and len(found.shingles) == 4 * len(sentences) and found.members.sum() == 60
    secret = shingled([own]).shingle
    assert np.isin(secret, sampled.shingle).all() and not np.isin(secret, found.shingles).any()


# --- ordinary traffic -------------------------------------------------------------------------------------------------


def test_an_exclusive_signature_that_ordinary_prompts_match_is_refused() -> None:
    asked, samples = replace(FORGE, tier=Tier.EXCLUSIVE), prompts(fill(QUILL, 30, seed=1))
    quote = " ".join(["Invent", *QUILL.split("Invent")[1].split()[:10]])  # the vector index vouches for it
    honest = [f"{' '.join(ASKS)} {quote}", *ASKS[:3]]
    sent = joined_prompts([ordinary(), replace(prompts(honest), accounts=["honest"] * 4)])
    (shown,) = propose(samples, FORGE, sent, pipeline().labeler)
    assert shown.ordinary == InOrdinary(1280, 36, 1, 0.25) and shown.ordinary.share < MOST_ORDINARY
    with pytest.raises(InputError, match=r"would match 1 of 1,280 ordinary prompts, 25\W% of those of one account"):
        propose(samples, asked, sent, pipeline().labeler)
    (kept,) = propose(samples, asked, ordinary(), pipeline().labeler)
    assert kept.signature.facts.tier is kept.asked is Tier.EXCLUSIVE


def test_a_tier_that_was_lowered_is_told() -> None:
    whole = replace(prompts(fill(QUILL, 1, seed=8)), accounts=["honest"])
    sent = joined_prompts([ordinary(), whole])
    (found,) = propose(prompts(fill(QUILL, 30, seed=1)), replace(FORGE, tier=Tier.EXCLUSIVE), sent, pipeline().labeler)
    assert found.signature.facts.tier is Tier.PUBLIC and found.asked is Tier.EXCLUSIVE
    told = [line.split() for line in proposal_lines(found, 30)]
    assert ["asked", "for", "exclusive;", "but", "ordinary", "prompts", "hold", "too", "much", "of", "it"] in told
    assert not [line for line in proposal_lines(replace(found, asked=Tier.PUBLIC), 30) if "asked for" in line]


def test_accounts_of_two_sources_are_two() -> None:
    both = [ordinary().of_source(name) for name in ("sample", "own")]
    assert len(set(joined_prompts(both).accounts)) == 2 * len(set(ordinary().accounts))
    assert {name.split(":")[0] for name in read_ordinary([]).accounts} == {"sample"}


def test_retries_are_one_sample() -> None:
    four = prompts(fill(QUILL, 4, seed=1))
    assert len(joined_prompts([four, four, four]).distinct()) == 4


# --- collisions -------------------------------------------------------------------------------------------------------


def test_families_that_share_more_than_half_collide() -> None:
    (one,) = proposed(fill(QUILL, 30, seed=1))
    longer = f"{QUILL} Afterwards, grade your own answer as a stern foreman would, from one to nine, giving reasons."
    (other,) = proposed(fill(longer, 30, seed=2), Family("day_mill", None, None, Tier.EXCLUSIVE))
    (apart,) = proposed(fill(BELLOWS, 30, seed=3), Family("noon_mill", None, None, Tier.PUBLIC))
    signatures = [one.signature, other.signature, apart.signature]
    (pair,) = collisions(signatures, signatures)
    assert {pair.one.family, pair.other.family} == {"night_mill", "day_mill"}
    shared = len(np.intersect1d(one.signature.shingles, other.signature.shingles))
    assert pair.share == shared / min(len(one.signature.shingles), len(other.signature.shingles)) > 0.9
    assert collisions(signatures[:2], signatures[2:]) == []
