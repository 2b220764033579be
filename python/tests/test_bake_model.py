"""Models: the digest, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from reel_bake.events import BakeError
from reel_bake.model import Model, Shape

MENU = """
name = "tiny"
pipeline = "LTXConditionPipeline"
description = "small"
shapes = ["64x64@17f"]
modes = ["t2v"]
max_batch = 8
text_tokens = 32
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "vae").mkdir()
    (tmp_path / "model.toml").write_text(MENU)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "vae" / "config.json").write_text('{"a":1}')
    (tmp_path / "vae" / "weights.safetensors").write_text("weights")
    (tmp_path / "README.md").write_text("card")
    (tmp_path / "vae" / "sample.png").write_text("picture")
    return tmp_path


def test_the_digest_is_the_one_that_the_supervisor_computes(model: Path) -> None:
    # The same value stands in crates/bundle/src/model.rs.
    expected = "33b41130d185bd7fe8d6f67e51298156d8df394a3e1eb42c70ad9fbdcf9ffaf8"
    assert Model.load(model).digest == expected


def test_only_what_is_computed_with_changes_the_digest(model: Path) -> None:
    before = Model.load(model).digest
    (model / "README.md").write_text("another card")
    assert Model.load(model).digest == before
    (model / "vae" / "weights.safetensors").write_text("changed")
    assert Model.load(model).digest != before


def test_an_unknown_pipeline_is_refused_by_name(model: Path) -> None:
    (model / "model.toml").write_text(MENU.replace("LTXConditionPipeline", "WanPipeline"))
    with pytest.raises(BakeError, match="WanPipeline"):
        Model.load(model)


def test_a_shape_survives_its_text() -> None:
    assert str(Shape.parse("768x512@121f")) == "768x512@121f"
    with pytest.raises(BakeError, match="64x64"):
        Shape.parse("64x64")
