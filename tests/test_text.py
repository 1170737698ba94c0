"""Normal forms, spans and scaffold anchors."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.confusables import read_look_alikes
from classifier.text import (
    _INVISIBLE,
    ANCHOR_BYTES,
    _kind,
    head_anchor,
    keyed_hashes,
    normal_form,
    normal_forms,
    normalise_text,
    original_span,
    scored_text,
    tail_anchor,
)

TRAPS = "aAjJsSéÉßſıİσΣςеЕकﬀ—’< \t\n\x1c\u030c\u0301\u0338\u0345\u093c\u094d\uac00\u11a8\u0085\u2028\u3000\u200b"
texts = st.text(max_size=80)
ascii_texts = st.text(st.characters(max_codepoint=127), max_size=80)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Write\tA \n\n Parser ", "write a parser"),
        ("W\u200br\u2060i\u00adte", "write"),  # zero-width space, word joiner, soft hyphen
        ("\u202ewrite\u202c", "write"),  # bidirectional override
        ("ｗｒｉｔｅ ①", "write 1"),  # compatibility forms
        ("ÉCRIRE", "écrire"),
        ("e\u0301crire", "écrire"),
        ("编写\u3000代码", "编写 代码"),
        ("a\ud800b", "a\ufffdb"),  # a lone surrogate cannot be encoded
        ("", ""),
        (" \n", ""),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert normalise_text(text) == normal


@given(texts)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise_text(normalise_text(text)) == normalise_text(text)


@given(ascii_texts)
def test_the_short_way_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    long_way = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    assert normalise_text(text) == long_way


@given(st.text(st.sampled_from(TRAPS)))
def test_the_short_way_gives_what_the_long_way_gives(text: str) -> None:
    assert normalise_text(text) == _the_long_way(text)


def test_the_short_way_is_right_of_every_character_beside_a_letter() -> None:
    beyond = [chr(code) for code in range(128, 0x30000) if not 0xD800 <= code < 0xE000]
    texts = [f"J{char}j {char}" for char in beyond]
    assert [text for text in texts if normalise_text(text) != _the_long_way(text)] == []


@given(st.lists(st.one_of(st.text(st.sampled_from(TRAPS)), st.text())))
def test_texts_of_a_batch_are_apart(batch: list[str]) -> None:
    assert normal_forms(batch) == [_the_long_way(text).encode() for text in batch]


def test_characters_that_stand_alone_are_settled_in_any_order() -> None:
    alone = [chr(code) for code in range(128, 0x30000) if not 0xD800 <= code < 0xE000 and _kind(chr(code)) == 1]
    for seed in range(3):
        text = "".join(random.Random(seed).sample(alone, len(alone)))
        assert unicodedata.is_normalized("NFKC", text)


def _the_long_way(text: str) -> str:
    """Normal form by definition."""
    visible = "".join(char for char in text if not _INVISIBLE.match(char))
    composed = read_look_alikes(unicodedata.normalize("NFKC", visible))
    lowered = unicodedata.normalize("NFKC", composed.lower())
    return " ".join("".join(char for char in lowered if not _INVISIBLE.match(char)).split())


@given(ascii_texts, st.data())
def test_a_span_of_the_normal_form_is_found_in_the_original(text: str, data: st.DataObject) -> None:
    normal = normalise_text(text)
    if not normal:
        return
    start = data.draw(st.integers(0, len(normal) - 1))
    end = data.draw(st.integers(start + 1, len(normal)))
    first, last = original_span(text, normal_form(text), start, end)
    assert normalise_text(text[first:last]) == normal[start:end].strip()


@pytest.mark.parametrize(
    ("text", "part", "found"),
    [
        ("Über  Ärger: SCHREIBE  Code", "schreibe code", "SCHREIBE  Code"),
        ("请 编写 一个解析器", "一个解析器", "一个解析器"),
        ("Ça va?\n\nWrite  IT — now", "write it", "Write  IT"),
        ("x\u200b\u200bé write\u200b it", "write it", "write\u200b it"),
    ],
)
def test_spans_beyond_ascii(text: str, part: str, found: str) -> None:
    start = normalise_text(text).index(part)
    first, last = original_span(text, normal_form(text), start, start + len(part))
    assert text[first:last] == found


def test_system_text_comes_first() -> None:
    assert scored_text("You are terse.", "Hi") == "You are terse.\n\nHi"
    assert scored_text(None, "Hi") == "Hi"
    assert scored_text("", "Hi") == "Hi"


def test_hashes_depend_on_text_and_key_only() -> None:
    one, other, again = keyed_hashes([b"a", b"b", b"a"], b"k").tolist()
    assert one == again == keyed_hashes([b"a"], b"k").item()
    assert len({one, other, keyed_hashes([b"a"], b"l").item()}) == 3
    assert keyed_hashes([b"probe"], b"probewatch").tolist() == [0xA1F91D33F808A2B0]
    assert keyed_hashes([], b"k").tolist() == []


def test_anchors_leave_numbers_out_and_keep_head_and_tail() -> None:
    template = (
        "ticket {}: the customer below is waiting. answer politely, in at most three sentences, "
        "and never promise a refund. {}"
    )
    payload = "where is my parcel? " * 20
    normal = [
        normal_form(template.format(number, payload + tail)) for number, tail in ((17, "it is late"), (4, "help"))
    ]
    one, two = map(head_anchor, normal)
    assert one == two == template.replace("{}", "")[:ANCHOR_BYTES].encode()
    one, two = map(tail_anchor, normal)
    assert one != two
    assert head_anchor(b"short 12") == tail_anchor(b"short 12") == b"short "


@given(st.text(st.sampled_from("abc 0123456789éक😀"), max_size=500))
def test_anchors_reach_as_many_characters_whatever_their_bytes(text: str) -> None:
    normal, reach = normalise_text(text), 2 * ANCHOR_BYTES
    head, tail = ("".join(c for c in part if c not in "0123456789") for part in (normal[:reach], normal[-reach:]))
    assert head_anchor(normal.encode()) == head.encode()[:ANCHOR_BYTES]
    assert tail_anchor(normal.encode()) == tail.encode()[-ANCHOR_BYTES:]
