"""Letters of other scripts that pass for Latin ones, and how to read words that mix the two.

Part of the step text. Words of one script are left alone, whatever they look like: Russian stays Russian.
"""

from __future__ import annotations

import re

_LOOK_ALIKES = {  # Unicode UTS 39 `confusables.txt`, capital I among i; closed under case; small capitals
    "a": "ɑΑαАаᎪᴀⱭꓮꭺ",
    "b": "ʙΒβВЬвьᏏᏴᏼꓐꮟ",
    "c": "СсᏟᴄⲤⲥꓚꮯ",
    "d": "ԀԁᎠᏧᴅꓒꓓꭰꮷ",
    "e": "ΕεЕеҼҽᎬᴇꓰꭼ",
    "f": "ϜϝՔքꓝꜰ",
    "g": "ɡɢԌԍՑցᏀᏳᏻꓖꞬꮐ",
    "h": "ʜΗηНнҺһՀհᎻᏂⲎⲏꓧꮋꮒ",
    "i": "ƖɩɪΙІӀιіӏᎥⲒⲓꙆꙇꓲꞮꭵ",
    "j": "ͿϳЈјᎫᴊꓙꭻ",
    "k": "ΚκКкᏦᴋⲔⲕꓗꮶ",
    "l": "ʟᏞⳐⳑꓡꮮ",
    "m": "ΜμϺϻМмᎷᴍⲘⲙꓟꮇ",
    "n": "ɴΝՈՌոռⲚⲛꓠ",
    "o": "ΟΣοσОоՕօᴏᴑⲞⲟꓳ",
    "p": "ΡρРрᏢᴘⲢⲣꓑꮲ",
    "q": "ԚԛԳԶգզ",
    "r": "ГгᎡᎱᏒᴦⲄⲅꓣꭱꮁꮢ",
    "s": "ЅѕՏտᏕᏚꓢꜱꮥꮪ",
    "t": "ΤτТтᎢᴛⲦⲧꓔꭲ",
    "u": "ƲʋυՍսᴜꓴ",
    "v": "νѴѵᏙᴠꓦꮩ",
    "w": "ѠѡԜԝԱաᎳᏔᴡꓪꮃꮤ",
    "x": "ΧχХхⲬⲭꓫ",
    "y": "ʏΓⲨⲩΥγУуҮүᎩᎽꓬꭹꮍ",
    "z": "ΖζᏃᴢꓜꮓ",
}
_TABLE = str.maketrans({char: latin for latin, chars in _LOOK_ALIKES.items() for char in chars})
LOOK_ALIKES = frozenset("".join(_LOOK_ALIKES.values()))
_SEAM = re.compile(f"[{''.join(sorted(LOOK_ALIKES))}](?:(?<=[A-Za-z].)|(?=[A-Za-z]))")
_WORD = re.compile(r"[^\W\d_]+")
_SHORTEST = 4
"""Letters of a word that mixes scripts by intent: shorter ones are units and formulas (μs, Δx)."""


def read_look_alikes(text: str) -> str:
    """Text, its look-alikes as the Latin letters they pass for; of the same length.

    In words that mix Latin letters and look-alikes; in the whole text where such words outnumber those that no
    look-alike makes Latin, so that short words of look-alikes alone are read, too.
    """
    if _SEAM.search(text) is None:
        return text
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    mixed = sum(len(word) >= _SHORTEST and _SEAM.search(word) is not None for word in words)
    foreign = sum(not word.translate(_TABLE).isascii() for word in words)
    if mixed > foreign:
        return text.translate(_TABLE)
    return _WORD.sub(_read_mixed, text)


def _read_mixed(found: re.Match[str]) -> str:
    word = found[0]
    is_mixed = len(word) >= _SHORTEST and not word.isascii() and _SEAM.search(word) is not None
    return word.translate(_TABLE) if is_mixed else word
