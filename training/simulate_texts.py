"""Texts as the simulator holds them: pieces, and shapes that say how pieces are put together. Third step.

    scenario -> accounts -> events -> **texts** -> files

A shape is a row of columns; each column is a range of pieces of which an event draws one, so that a prompt is a few
numbers until it is written. A whole text from a file is a shape of one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from classifier.errors import InputError, UsageError
from training.sample_texts import SLOT

FRESH = 0
"""The draw that is new with each request, even where an account sends one text over and over."""
MAX_BYTES = 1_900_000_000
"""Arrow's offsets into one array of text are of 32 bits."""

Ints = NDArray[np.int64]


class Range(NamedTuple):
    """Some rows in a row: pieces, menus or system texts."""

    start: int
    size: int


class Column(NamedTuple):
    """One column of a shape. Columns with the same draw take the same place in their ranges, `FRESH` apart."""

    values: Range
    draw: int


@dataclass(frozen=True)
class Texts:
    """Everything that anybody can send.

    Attributes:
        pieces: all pieces; the first is empty.
        columns: [shapes], how many columns each has.
        start, size, draw: int32 [shapes, most columns]: the range of each column in `pieces`, and its draw.
        shape_family: [shapes], place in `families`, -1 for what is no extraction.
        families, capabilities: extraction families and what each is aimed at.
        menu_shapes: shapes of all menus, one menu after the other; `menu_start` and `menu_size` [menus] cut it.
        menu_systems: [menus, 2], start and size of the system texts that an account with this menu may have.
        systems: system texts; null for none.
        pools: the menus of each pool, by name.
        replies: pieces that stand for what the model replied.
    """

    pieces: pa.StringArray
    columns: Ints
    start: NDArray[np.int32]
    size: NDArray[np.int32]
    draw: NDArray[np.int32]
    shape_family: Ints
    families: tuple[str, ...]
    capabilities: tuple[str, ...]
    menu_shapes: Ints
    menu_start: Ints
    menu_size: Ints
    menu_systems: Ints
    systems: pa.StringArray
    pools: Mapping[str, Range]
    replies: Range

    def family_shapes(self, names: Sequence[str]) -> Ints:
        """Shapes of some families, each family as often as the next.

        Raises:
            UsageError: one of them is not known.
        """
        for name in names:
            if name not in self.families:
                known = ", ".join(sorted(self.families)[:20])
                raise UsageError(
                    f"Family {name!r} has no texts: expected some of {known}, or give --texts that hold it."
                )
        each = [np.flatnonzero(self.shape_family == self.families.index(name)) for name in names]
        longest = max(map(len, each))
        return np.concatenate([np.resize(shapes, longest) for shapes in each])


@dataclass
class TextsBuilder:
    """Collects pieces, shapes and menus."""

    _pieces: list[str] = field(default_factory=lambda: [""])
    _ranges: dict[tuple[str, ...], Range] = field(default_factory=dict)
    _shapes: list[list[Column]] = field(default_factory=list)
    _families: dict[str, str] = field(default_factory=dict)
    _shape_family: list[str | None] = field(default_factory=list)
    _menus: dict[str, list[tuple[Sequence[int], Range]]] = field(default_factory=dict)
    _systems: list[str | None] = field(default_factory=list)

    def pool_names(self) -> frozenset[str]:
        """Pools that have a menu by now."""
        return frozenset(self._menus)

    def has_family(self, name: str) -> bool:
        return name in self._families

    def shapes_of(self, pool: str) -> list[int]:
        """Shapes of all menus of a pool."""
        return sorted({shape for shapes, _ in self._menus.get(pool, ()) for shape in shapes})

    def values(self, values: Sequence[str]) -> Range:
        """The range that holds these pieces, in this order."""
        key = tuple(values)
        if key not in self._ranges:
            self._ranges[key] = Range(len(self._pieces), len(key))
            self._pieces += key
        return self._ranges[key]

    def shape(self, columns: Sequence[Column], family: str | None = None) -> int:
        """A new shape; `family`: the extraction family whose prompts it makes."""
        self._shapes.append(list(columns))
        self._shape_family.append(family)
        return len(self._shapes) - 1

    def plain(self, *ranges: Range) -> int:
        """A shape whose columns are drawn independently."""
        return self.shape([Column(values, place) for place, values in enumerate(ranges, start=1)])

    def template(
        self, text: str, slots: Mapping[str, Sequence[str]], linked: Mapping[str, str], fresh: Sequence[str] = ()
    ) -> list[Column]:
        """Columns of a text with slots: fixed words and values by turns; braces that are no slot stay.

        `linked`: slots that are drawn together, by the name of what they share; `fresh`: slots drawn anew each time.
        """
        columns, shared = list[Column](), dict[str, int]()
        for place, part in enumerate(SLOT.split(text), start=1):
            is_slot = place % 2 == 0
            if not is_slot or part not in slots:
                word = f"{{{part}}}" if is_slot else part
                columns += [Column(self.values([word]), place)] if word else []
            else:
                draw = shared.setdefault(linked[part], place) if part in linked else place
                columns.append(Column(self.values(slots[part]), FRESH if part in fresh else draw))
        return columns

    def family(self, name: str, capability: str, columns: Sequence[Column]) -> None:
        """Prompts of an extraction family."""
        self._families[name] = capability
        self.shape(columns, name)

    def menu(self, pool: str, shapes: Sequence[int], systems: Sequence[str | None] = (None,)) -> None:
        """What an account of a pool may choose to send, and before which system text."""
        start = len(self._systems)
        self._systems += systems
        self._menus.setdefault(pool, []).append((shapes, Range(start, len(systems))))

    def build(self, replies: Sequence[str]) -> Texts:
        """All that was collected.

        Raises:
            InputError: it is more text than fits.
        """
        answers = self.values(replies)
        size = sum(len(piece.encode()) for piece in self._pieces)
        if size > MAX_BYTES:
            raise InputError(f"--texts hold {size:,} bytes of text, expected at most {MAX_BYTES:,}: give fewer rows")
        menus = [menu for pool in self._menus.values() for menu in pool]
        sizes = np.array([len(shapes) for shapes, _ in menus], np.int64)
        families = list(self._families)
        start, width, draw = self._columns()
        return Texts(
            pieces=pa.array(self._pieces, pa.string()),
            columns=np.array([len(columns) for columns in self._shapes], np.int64),
            start=start,
            size=width,
            draw=draw,
            shape_family=np.array([families.index(f) if f is not None else -1 for f in self._shape_family], np.int64),
            families=tuple(families),
            capabilities=tuple(self._families.values()),
            menu_shapes=np.concatenate([np.array(shapes, np.int64) for shapes, _ in menus]),
            menu_start=np.cumsum(sizes) - sizes,
            menu_size=sizes,
            menu_systems=np.array([systems for _, systems in menus], np.int64),
            systems=pa.array(self._systems, pa.string()),
            pools=self._pools(),
            replies=answers,
        )

    def _columns(self) -> NDArray[np.int32]:
        """Start, size and draw of every column, [3, shapes, most columns]."""
        table = np.zeros((3, len(self._shapes), max(map(len, self._shapes))), np.int32)
        for row, columns in enumerate(self._shapes):
            for place, (values, draw) in enumerate(columns):
                table[:, row, place] = values.start, values.size, draw
        return table

    def _pools(self) -> dict[str, Range]:
        pools, at = {}, 0
        for name, menus in self._menus.items():
            pools[name] = Range(at, len(menus))
            at += len(menus)
        return pools
