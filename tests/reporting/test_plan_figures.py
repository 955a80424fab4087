"""Figures of the cost model: their data is the model's, and the documents' script draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.steps import Load
from roofprobe.reporting.plan_figures import draw, step_curve

DOCS = Path(__file__).parents[2] / "docs"


def test_no_step_is_drawn_below_its_roofline() -> None:
    at = np.array([1 << power for power in range(8)], dtype=np.float64)
    curve = step_curve(
        default_calibration("H100 SXM"), load_model("llama-3.1-8b"),
        Load(decodes=at, context=1000.0), at,
    )  # fmt: skip
    assert (curve.median_s > np.maximum(curve.compute_s, curve.memory_s)).all()
    assert (curve.p10_s < curve.median_s).all()
    assert (curve.median_s < curve.p90_s).all()
    assert (np.diff(curve.median_s) > 0).all()


def test_the_script_draws_the_figures_that_the_documents_show(tmp_path: Path) -> None:
    files = draw(tmp_path)
    text = (DOCS / "cost-model.md").read_text()
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert f"](images/{file.name})" in text
