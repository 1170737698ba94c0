"""Chance for the simulator that depends on what is drawn and on nothing before it.

Every number is a hash of the seed, an account, an ordinal (the how-manieth request of the account) and a purpose, so
that any part of the traffic can be made alone, in any order and in any number of pieces, and is always the same.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)


class Purpose(IntEnum):
    """What a number is drawn for: different purposes are independent of each other. Slots of a text start at `SLOT`."""

    PLACE = 1
    VOLUME = 2
    KIND = 3
    ZONE = 4
    MENU = 5
    SYSTEM = 6
    FIRST_DAY = 7
    PHASE = 8
    ACTIVE = 9
    BUSY = 10
    SESSION = 11
    START = 12
    GAP = 13
    RETRY = 14
    DELAY = 15
    EXTRACTION = 16
    SHAPE = 17
    REPLY = 18
    CLIENT = 19
    SHIFT = 20
    ID = 21
    NORMAL = 22
    SLOT = 32


def seed_key(seed: int) -> int:
    """The 64 bits that stand for a seed."""
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "big")


def event_keys(key: int, account: NDArray[np.integer], ordinal: NDArray[np.integer]) -> Keys:
    """A key for each pair of account and ordinal (both below 2^32), [n]; no two pairs share one."""
    pair = (account.astype(np.uint64) << _HALF) | ordinal.astype(np.uint64)
    return _mixed(pair ^ np.uint64(key))


def draws(keys: Keys, purpose: NDArray[np.integer] | int) -> Keys:
    """64 random bits for each key, [n]; `purpose`: one for all or one for each."""
    return _mixed(keys + np.atleast_1d(purpose).astype(np.uint64) * _GOLDEN)


def units(keys: Keys, purpose: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), [n]."""
    return (draws(keys, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(keys: Keys, purpose: int, size: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Uniform whole numbers from 0 to `size` - 1, [n]; `size` (below 2^32): one for all or one for each."""
    return scaled(draws(keys, purpose), size)


def scaled(bits: Keys, size: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Random bits as whole numbers from 0 to `size` - 1, [n]."""
    return (((bits >> _HALF) * np.asarray(size).astype(np.uint64)) >> _HALF).astype(np.int64)


def _mixed(values: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), a bijection of 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
