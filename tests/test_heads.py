"""Heads and transformer: probabilities by hand, one text at a time or together, and the cascade between the tiers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from classifier.heads import UNCALIBRATED, Calibration, calibrated_probabilities
from classifier.labeler import cascaded, decide_capability, fused_extraction, undecided

ROOT = Path(__file__).resolve().parents[1]


def test_probabilities_are_a_softmax_and_a_sigmoid() -> None:
    logits = np.log(np.array([[4.0, 2.0, 1.0, 1.0, 3.0]], np.float32))
    assert calibrated_probabilities(logits, UNCALIBRATED)[0] == pytest.approx([0.5, 0.25, 0.125, 0.75])


def test_calibration_scales_and_shifts() -> None:
    logits = np.log(np.array([[4.0, 2.0, 1.0, 1.0, 3.0]], np.float32))
    calibration = Calibration((0.5, 0.5, 0.5, 0.5, 2.0), (0.0, 0.0, float(np.log(2)), 0.0, float(-np.log(9))))
    shares = np.array([2, 2**0.5, 2, 1])
    expected = [*(shares / shares.sum())[:3], 0.5]
    assert calibrated_probabilities(logits, calibration)[0] == pytest.approx(expected)


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[900.0, -900, 0, 0, 900], [0, 0, 0, 0, -900]], np.float32)
    p = calibrated_probabilities(logits, UNCALIBRATED)
    assert p[0].tolist() == pytest.approx([1, 0, 0, 1])
    assert p[1, :3].tolist() == pytest.approx([0.25] * 3)


def test_rows_are_undecided_by_the_margin_of_the_two_most_probable_targets() -> None:
    p = np.array([[0.5, 0.3, 0.1, 0.9], [0.05, 0.05, 0.05, 0.9], [0.45, 0.1, 0.0, 0.0]], np.float32)
    assert undecided(p, 0.3).tolist() == [True, False, True]  # margins .2, .85 - .05 = .8, and .45 (other) - .45 = 0
    assert undecided(p, 2.0).all()
    assert not undecided(p, 0.0).any()


def test_the_most_probable_capability_above_its_threshold_is_named() -> None:
    p = np.array([[0.4, 0.5, 0.1, 0], [0.4, 0.3, 0.1, 0], [0.2, 0.3, 0.1, 0]], np.float32)
    assert decide_capability(p, np.array([0.35, 0.6, 0.9], np.float32)).tolist() == [0, 0, 3]


def test_the_cascade_asks_where_the_static_tier_is_undecided() -> None:
    static = np.array([[0.5, 0.3, 0.1, 0.9], [0.05, 0.05, 0.05, 0.9]], np.float32)
    transformer = np.array([[0.1, 0.8, 0.0, 0.5], [0.9, 0.0, 0.0, 0.1]], np.float32)
    assert cascaded(static, transformer, 0.3) == pytest.approx(
        np.array([[0.1, 0.8, 0.0, 0.75], [0.05, 0.05, 0.05, 0.9]])
    )
    assert cascaded(static, transformer, 2.0)[1] == pytest.approx([0.9, 0.0, 0.0, 0.5])
    assert np.array_equal(cascaded(static, transformer, 0.0), static)
    certain = np.array([[0.4, 0.3, 0.2, 1.0]], np.float32)
    assert cascaded(certain, np.array([[0.4, 0.3, 0.2, 0.0]], np.float32), 2.0)[0, -1] == pytest.approx(0.5)


def test_no_opinion_outweighs_a_match() -> None:
    opinion = np.array([0.2, 0.9999, 0.3, 1.0, 0.2, 1.0], np.float32)
    exclusive = np.array([True, True, False, False, False, False])
    public = np.array([False, False, False, False, True, True])
    expected = [0.999, 0.9999, 0.3, 0.997, 0.998, 0.998]
    assert fused_extraction(opinion, exclusive, public).tolist() == pytest.approx(expected)


def test_a_prompt_that_is_scored_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    """onnxruntime left an id of the machine there; but not where CI is set, so the environment is bare."""
    code = "import sys; from service import cli, exits; sys.exit(exits.run_app(cli.app, ['score', 'Write a haiku.']))"
    bare = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.rglob("*")) == []
