"""Answer drift: the figure itself, and the packaged model in 4 bits against itself."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.interface import Drift, DriftStep
from app.models.registry import drift
from app.models.registry.drift_check import NotQuantised
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.fakes import FakeModel

FEW = drift.prompts()[:3]


def logs(**shares: float) -> dict[str, float]:
    return {text: math.log(share) for text, share in shares.items()}


def test_the_divergence_is_that_of_the_named_texts_and_one_bucket_for_the_rest() -> None:
    one, other = logs(a=0.5, b=0.25, c=0.25), logs(a=0.25, b=0.5, c=0.25)
    assert drift.divergence(one, one) == 0
    assert drift.divergence(one, other) == pytest.approx(0.25 * math.log(2), abs=1e-6)
    # b is named by one side alone: its share is in the rest of both
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert drift.divergence(logs(a=0.5, b=0.5), logs(a=0.9, c=0.1)) == pytest.approx(expected, abs=1e-6)


def test_a_reference_outlives_its_process_and_a_broken_file_is_none(tmp_path: Path) -> None:
    place = drift.Place("你", {"你": -0.1, "我": -2.5})
    reference = drift.Reference((("问", "你", (place,)),))
    reference.save(tmp_path / "new" / "one.json")
    assert drift.Reference.read(tmp_path / "new" / "one.json") == reference
    (tmp_path / "half.json").write_text('{"answers": [["问", "你"')
    assert drift.Reference.read(tmp_path / "half.json") is None


def test_a_model_that_gives_no_probabilities_says_so() -> None:
    with pytest.raises(drift.CannotScore):
        next(drift.answered(FakeModel("far"), ["Hello"]))


@pytest.fixture(scope="module")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    placement = Placement("cpu", "bfloat16", None, 4000, packaged_folder.parents[1])
    registry = ModelRegistry(placement, "smollm2-135m", drift_prompts=FEW)
    yield registry
    registry.close()


def test_the_panel_learns_size_before_and_after_and_the_drift(registry: ModelRegistry) -> None:
    with registry.lease("smollm2-135m") as full:
        reference = drift.Reference(tuple(drift.answered(full, FEW)))
        same = drift.summary("itself", drift.compared(reference, full))
    assert same.mean_kl < 0.01 and same.same_choice > 0.9 and same.places >= 20
    with pytest.raises(NotQuantised):
        next(registry.check_drift("smollm2-135m"))
    registry.unload("smollm2-135m")
    *steps, found = registry.check_drift("smollm2-135m:4bit")
    told = [(step.model, step.done) for step in steps if isinstance(step, DriftStep)]
    assert told == [(model, done) for model in ("full", "quantised") for done in range(len(FEW) + 1)]
    assert isinstance(found, Drift) and found.places == same.places, "asked was what the registry was given"
    assert same.mean_kl < found.mean_kl < 0.5
    assert 0.7 < found.same_choice <= 1
    entry = next(entry for entry in registry.ledger().models if entry.name == "smollm2-135m:4bit")
    assert entry.drift == found
    assert entry.full_mib == 257 and entry.mib < 0.9 * entry.full_mib
    ready = [entry.name for entry in registry.ledger().models if entry.state == "ready"]
    assert ready == ["smollm2-135m:4bit"], "the full one came for the check alone"
    kept = list((registry.placement.data / "drift").glob("*.json"))
    assert len(kept) == 1 and list(registry.check_drift("smollm2-135m:4bit")) == [found]


def test_a_name_tells_its_precision_only_where_it_is_not_the_usual_one(registry: ModelRegistry) -> None:
    assert registry.specs.chosen("smollm2-135m:full").name == "smollm2-135m"
    assert registry.specs.chosen(" smollm2-135m:4bit").name == "smollm2-135m:4bit"
    assert registry.fit("smollm2-135m:4bit").needed_mib < registry.fit("smollm2-135m").needed_mib
