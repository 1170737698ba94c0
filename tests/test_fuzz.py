"""A few hundred requests that nobody would send; tests/benchmarks/fuzz.py sends 100,000."""

from __future__ import annotations

from pathlib import Path

from tests.fuzzing import fuzzed


def test_no_request_is_answered_by_our_fault_or_otherwise_than_documented(tmp_path: Path) -> None:
    with fuzzed(tmp_path) as fuzz:
        fuzz.document(4, seeded=1)
        fuzz.bodies(30, seeded=1)
        fuzz.console(4, seeded=1)
        assert fuzz.n > 180 and fuzz.n_errors == 0
        assert {status for _, status in fuzz.seen} >= {200, 400, 404, 422}
        assert 401 not in {status for _, status in fuzz.seen}  # or nothing behind the gate was tried
