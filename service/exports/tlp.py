"""How far an export may be passed on, in the words of the Traffic Light Protocol. Used by `stix` and the command."""

from __future__ import annotations

from enum import StrEnum


class Tlp(StrEnum):
    """`clear` is what STIX 2.1 calls white."""

    CLEAR = "clear"
    GREEN = "green"
    AMBER = "amber"
    RED = "red"
