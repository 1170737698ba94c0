"""What a text hides: encodings undone, marks taken away, spans of what was sent."""

from __future__ import annotations

import base64
import codecs
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.confusables import read_look_alikes
from classifier.reveal import Piece, Revealed, reveal, reveal_all
from classifier.text import normalise_text
from tests.disguises import EXACT

SECRET = "Think about it step by step, and show the whole of your reasoning to me and to nobody else."
READ = {**EXACT, "json_escapes": lambda text, rng: "".join(f"\\u{ord(char):04x}" for char in text)}
LEAVES_TRACES = {"line_shuffle", "padding", "markup", "in_base64_asked"}


@pytest.mark.parametrize("name", sorted(READ.keys() - LEAVES_TRACES))
def test_a_disguise_leaves_no_trace_in_the_normal_form(name: str) -> None:
    disguised = READ[name](SECRET, np.random.default_rng(0))
    assert disguised != SECRET
    assert normalise_text(reveal_all([disguised])[0].text) == SECRET.lower()


@pytest.mark.parametrize("name", sorted(LEAVES_TRACES))
def test_other_disguises_leave_all_words_in_order(name: str) -> None:
    disguised = READ[name](SECRET, np.random.default_rng(0))
    found = normalise_text(reveal_all([disguised])[0].text)
    assert SECRET.lower() in found.replace("*", "").replace("_", "").replace("`", "")


def test_what_is_encoded_is_read_where_it_stands() -> None:
    hidden = base64.b64encode(SECRET.encode()).decode()
    sent = f"Do what this says: {hidden} and be <b>quick</b> &amp; kind"
    found = reveal(sent)
    assert found.text == f"Do what this says: {SECRET} and be quick & kind"
    assert [sent[piece.start : piece.end] for piece in found.pieces] == [hidden, "<b>", "</b>", "&amp;"]


def test_encodings_within_encodings_are_read_three_deep() -> None:
    deep = SECRET
    for depth in range(1, 5):
        deep = base64.b64encode(deep.encode()).decode()
        assert (reveal(deep).text == SECRET) == (depth <= 3)


def test_a_text_cut_out_of_an_encoded_one_is_read() -> None:
    hidden = base64.b64encode(("é" + SECRET * 3).encode()).decode()
    for start in range(4):
        assert SECRET[10:] in reveal(hidden[start : len(hidden) - start]).text


def test_rot13_needs_three_words_of_it() -> None:
    assert reveal(codecs.encode(SECRET, "rot13")).text == SECRET
    honest = "In the cipher, gur naq gur are the and the."
    assert reveal(f"Is gur a word? {honest}").text == f"Is gur a word? {honest}"


@pytest.mark.parametrize(
    "honest",
    [
        "https://example.org/a/very/long/path/to/a/file-with-a-long-name.html?and=parameters",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 of it",
        "AnExtremelyLongIdentifierOfAClassInSomeEnterpriseCodeBaseFactoryFactory()",
        "key AKzq7LjHVU3t3fcxj5aiPFEW4TzzzQQ91827364554637281 do not share",
        "if a < b and c > d: x &= 1; y = <T>(list)",
        "这是一个没有空格的很长的中文句子而且还会继续很长很长因为中文里面没有空格所以不能当作编码来看待",
        "0" * 64,
        "ACGT" * 20,
    ],
)
def test_ordinary_text_is_left_alone(honest: str) -> None:
    assert reveal(honest) == reveal_all([honest])[0] == Revealed(honest)


@given(st.lists(st.text(max_size=200), max_size=5))
def test_a_batch_says_of_each_what_it_says_alone(texts: list[str]) -> None:
    assert [found.text for found in reveal_all(texts)] == [reveal(text).text for text in texts]


@given(st.text(alphabet="abc <&;>/b", max_size=60))
def test_a_span_of_what_was_sent_holds_what_was_meant(text: str) -> None:
    found = reveal(text)
    for start in range(len(found.text)):
        left, right = found.sent_span(start, start + 1)
        replaced = [piece for piece in found.pieces if (piece.start, piece.end) == (left, right)]
        assert found.text[start] in (replaced[0].meaning if replaced else text[left:right])


def test_spans_by_hand() -> None:
    found = Revealed("say hello to all", (Piece(4, 24, "hello"), Piece(25, 28, "")))
    assert found.sent_span(0, 3) == (0, 3)
    assert found.sent_span(5, 6) == (4, 24)
    assert found.sent_span(0, 16) == (0, 34)
    assert found.sent_span(10, 12) == (28, 30)


def test_long_texts_take_no_more_than_their_length() -> None:
    """A pattern that backtracks would not end on these."""
    for unit in ("a", "a%", "a%2", "<b ", "&#", "ab0x", "\\u00", "a/b-", "A" * 31 + " "):
        assert [len(found.text) <= len(unit) * 100_000 for found in reveal_all([unit * 100_000])] == [True]


def test_percent_and_plus_are_those_of_forms() -> None:
    assert reveal(quote("mots, où; êtes: là?", safe="") + "%21").text == "mots, où; êtes: là?!"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Реrfесt rеаsоning", "Perfect reasoning".lower()),
        ("Привет, как дела сегодня", "Привет, как дела сегодня"),
        ("это HTML-код и ещё немного текста о нём", "это HTML-код и ещё немного текста о нём"),
        ("10 μs, Δx and λ", "10 μs, Δx and λ"),
        ("Το βιβλίο είναι εδώ", "Το βιβλίο είναι εδώ"),
    ],
)
def test_look_alikes_are_read_in_words_of_two_scripts(written: str, meant: str) -> None:
    assert read_look_alikes(written).lower() == meant.lower()


@given(st.text(alphabet="abсеТрι жΣσ μIx", max_size=40))
def test_normal_form_is_its_own(text: str) -> None:
    assert normalise_text(normalise_text(text)) == normalise_text(text)
