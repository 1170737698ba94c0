"""From events to the columns of a file: ids, times and texts, without a loop over events. Fourth step of the simulator.

    scenario -> accounts -> events -> **texts** -> files

Every column is a function of the event alone, so it does not matter how many are composed at once.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.simulate_accounts import Accounts
from training.simulate_draws import Keys, Purpose, below, draws, scaled
from training.simulate_events import Events, ordinary_shapes, wordings
from training.simulate_texts import FRESH, Texts

Ints = NDArray[np.integer]

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
TRAFFIC_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("account_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        ("system", pa.string()),
        ("prompt", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
    ]
)
"""What `probewatch label` reads as `plain`: `prompt` is there or, where earlier turns are sent again, `messages`."""
TRUTH_SCHEMA = pa.schema(
    [("family", pa.dictionary(pa.int16(), pa.string())), pa.field("retry", pa.bool_(), nullable=False)]
)
"""What is known of each event, row by row beside the traffic; `family`: that of an extraction request, else null."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def compose_traffic(events: Events, accounts: Accounts, texts: Texts) -> pa.RecordBatch:
    """Events as TRAFFIC_SCHEMA."""
    keys = accounts.event_keys(events.account, events.ordinal)
    grown = events.turn > 0
    prompt = compose_prompts(accounts, texts, events.account, events.ordinal, events.wording, events.shape)
    columns = [
        hex_ids(draws(keys, Purpose.ID)),
        accounts.ids.take(pa.array(events.account)),
        pa.array(events.time, TRAFFIC_SCHEMA.field("timestamp").type),
        texts.systems.take(pa.array(accounts.system[events.account])),
        _without(prompt, grown),
        _conversations(events, grown, accounts, texts),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRAFFIC_SCHEMA)


def compose_truth(events: Events, texts: Texts) -> pa.RecordBatch:
    """Events as TRUTH_SCHEMA."""
    family = texts.shape_family[events.shape].astype(np.int16)
    indices = pa.array(family, mask=family < 0)
    families = pa.DictionaryArray.from_arrays(indices, pa.array(texts.families, pa.string()))
    return pa.RecordBatch.from_arrays([families, pa.array(events.retry)], schema=TRUTH_SCHEMA)


def compose_prompts(
    accounts: Accounts, texts: Texts, account: Ints, ordinal: Ints, wording: Ints, shape: Ints
) -> pa.StringArray:
    """The prompts of n requests.

    All pieces of all prompts are taken in order into one buffer; a prompt is what lies between two offsets.
    """
    width = texts.columns[shape]
    end = np.cumsum(width)
    row = np.repeat(np.arange(len(shape)), width)
    place = np.arange(len(row)) - np.repeat(end - width, width)
    cell = shape[row] * np.int64(texts.start.shape[1]) + place
    start, size, draw = (table.ravel()[cell] for table in (texts.start, texts.size, texts.draw))
    piece = start.astype(np.int64)
    open_ = np.flatnonzero(size > 1)  # the others are fixed words
    piece[open_] += _drawn(accounts, account, ordinal, wording, row[open_], draw[open_], size[open_])
    flat = texts.pieces.take(pa.array(piece))
    edges = np.frombuffer(flat.buffers()[1], np.int32)[: len(piece) + 1]
    offsets = np.concatenate([edges[:1], edges[end]])
    return pa.StringArray.from_buffers(len(shape), pa.py_buffer(offsets), flat.buffers()[2])


def _drawn(
    accounts: Accounts, account: Ints, ordinal: Ints, wording: Ints, row: Ints, draw: Ints, size: Ints
) -> NDArray[np.int64]:
    """Which piece of its range each column takes: by the text's number, for fresh slots by the request's."""
    fixed, fresh = accounts.event_keys(account, wording), accounts.event_keys(account, ordinal)
    keys = np.where(draw == FRESH, fresh[row], fixed[row])
    return scaled(draws(keys, Purpose.SLOT + draw), size)


def _without(values: pa.StringArray, missing: NDArray[np.bool_]) -> pa.StringArray:
    """The same values, null where they are missing."""
    valid = np.packbits(~missing, bitorder="little")
    return pa.StringArray.from_buffers(len(values), values.buffers()[1], values.buffers()[2], pa.py_buffer(valid))


def _conversations(events: Events, grown: NDArray[np.bool_], accounts: Accounts, texts: Texts) -> pa.ListArray:
    """Requests that send earlier turns again, as messages: users' and models' by turns, the newest last; else null."""
    rows = np.flatnonzero(grown)
    turns = events.turn[rows].astype(np.int64)
    lengths = np.zeros(len(events), np.int64)
    lengths[rows] = 2 * turns + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    row = np.repeat(rows, turns * 2 + 1)
    place = np.arange(len(row)) - np.repeat(offsets[rows], turns * 2 + 1)
    account = events.account[row]
    ordinal = events.ordinal[row] - events.turn[row] + place // 2
    said, replied = np.flatnonzero(place % 2 == 0), np.flatnonzero(place % 2 == 1)
    wording = wordings(accounts, account[said], ordinal[said])
    shape = ordinary_shapes(texts, accounts, account[said], wording)
    users = compose_prompts(accounts, texts, account[said], ordinal[said], wording, shape)
    models = _replies(texts, accounts.event_keys(account[replied], ordinal[replied]))
    order = np.empty(len(row), np.int64)
    order[said], order[replied] = np.arange(len(said)), len(said) + np.arange(len(replied))
    content = pa.concat_arrays([users, models]).take(pa.array(order))
    role = pa.array(["user", "assistant"]).take(pa.array(place % 2))
    messages = pa.StructArray.from_arrays([role, content], fields=list(_MESSAGE))
    return pa.ListArray.from_arrays(pa.array(offsets), messages, mask=pa.array(~grown))


def _replies(texts: Texts, keys: Keys) -> pa.StringArray:
    return texts.pieces.take(pa.array(texts.replies.start + below(keys, Purpose.REPLY, texts.replies.size)))


def hex_ids(values: Keys) -> pa.StringArray:
    """Each number as 16 hexadecimal digits."""
    octets = values.astype(">u8").view(np.uint8).reshape(len(values), 8)
    digits = np.empty((len(values), 16), np.uint8)
    digits[:, ::2], digits[:, 1::2] = _HEX[octets >> 4], _HEX[octets & 15]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(digits))
