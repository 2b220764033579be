"""Keys: what must be compiled again when something changes, and what must not."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from reel_bake import manifest
from reel_bake.events import BakeError
from reel_bake.model import Model, Shape
from reel_bake.plan import Plan

MODEL = Path(__file__).parents[2] / "models" / "tiny-shapes"


def plan(shape: str = "64x64@17f", model: Path = MODEL) -> Plan:
    return Plan(Model.load(model), Shape.parse(shape), "cpu", "float32")


def keys(plan: Plan) -> dict[str, str]:
    return {part.role: part.key for part in plan.parts()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def changed(before: Plan, after: Plan) -> set[str]:
    old, new = keys(before), keys(after)
    return {role for role in new if new[role] != old.get(role)}


def test_more_frames_need_another_transformer_and_decoder() -> None:
    assert changed(plan(), plan("64x64@33f")) == {"transformer", "vae_decoder"}


def test_another_size_needs_everything_but_the_text_encoder() -> None:
    assert set(keys(plan())) - changed(plan(), plan("96x64@17f")) == {"text_encoder"}


def test_other_weights_need_no_other_code(copy: Path) -> None:
    before = plan(model=copy)
    digest = before.model.digest
    weights = next((copy / "transformer").glob("*.safetensors"))
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    after = plan(model=copy)
    assert after.model.digest != digest
    assert changed(before, after) == set()


def test_a_larger_batch_needs_another_transformer() -> None:
    larger = dataclasses.replace(plan(), model=dataclasses.replace(Model.load(MODEL), max_batch=16))
    assert changed(plan(), larger) == {"transformer"}


def test_a_menu_without_extend_has_no_encoder_for_it() -> None:
    model = dataclasses.replace(Model.load(MODEL), modes=("t2v", "i2v"))
    assert "vae_encoder_extend" not in keys(dataclasses.replace(plan(), model=model))


@pytest.mark.parametrize("shape", ["64x80@17f", "64x64@16f"])
def test_shapes_that_do_not_fit_are_refused_by_name(shape: str) -> None:
    with pytest.raises(BakeError, match=shape):
        plan(shape).check()


def test_more_given_frames_than_frames_are_refused() -> None:
    with pytest.raises(BakeError, match="cannot continue from 9 frames"):
        plan("64x64@5f").check()


def test_what_the_engine_does_not_reproduce_is_refused_by_field(copy: Path) -> None:
    config = copy / "scheduler" / "scheduler_config.json"
    config.chmod(0o644)
    text = config.read_text().replace('"stochastic_sampling": false', '"stochastic_sampling": true')
    config.write_text(text)
    with pytest.raises(BakeError, match="stochastic_sampling"):
        plan(model=copy).check()


def test_a_bundle_that_is_not_there_is_not_current(tmp_path: Path) -> None:
    assert not manifest.is_current(plan(), tmp_path / "current", tmp_path)
