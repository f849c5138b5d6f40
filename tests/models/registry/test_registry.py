"""The registry with the packaged model: names, adapters beside the base, memory given back."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from app.errors import DoesNotFit, ModelInUse, StudioError, UnknownModel
from app.models.catalog import known_models
from app.models.interface import Message, Sampling, TokenScoringModel
from app.models.registry.loaded_engine import LoadedEngine
from app.models.registry.model_names import HIDDEN
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter

NAME = "smollm2-135m"
GREEDY = Sampling(temperature=0, max_new_tokens=24)
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, packaged_folder.parents[1]), NAME)
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def adapter_folder(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(packaged_folder)
    return save_adapter(base, tmp_path_factory.mktemp("adapter"), seed=1, target_modules=["q_proj", "down_proj"])


def test_base_and_adapter_answer_side_by_side_from_one_set_of_weights(
    registry: ModelRegistry, adapter_folder: Path
) -> None:
    tuned = f"{NAME}+tuned"
    registry.add_adapter(tuned, adapter_folder)
    assert registry.names()[:2] == [NAME, tuned]
    assert registry.thinking(tuned) == "never"
    with registry.lease(NAME) as base, registry.lease(tuned) as other:
        streams = [model.stream(FRANCE, GREEDY) for model in (base, other, base)]
        texts = ["".join(stream) for stream in streams]
    assert texts[0] == texts[2] == PARIS
    assert texts[1] != PARIS
    ledger = registry.ledger()
    assert [(entry.name, entry.adapters) for entry in ledger.models] == [(NAME, ("tuned",))]


@pytest.mark.parametrize(
    ("capability", "budget", "mib"), [("AVX512", 4000, 257), ("AVX2", 4000, 513), ("AVX2", 600, 257)]
)
def test_the_number_format_suits_the_processor_and_the_budget(
    capability: str, budget: int, mib: int, packaged_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    registry = ModelRegistry(Placement("cpu", "auto", None, budget, packaged_folder.parents[1]), NAME)
    assert registry.fit(NAME).needed_mib == mib + min(known_models.WORKING_MIB, budget // 4)
    if mib > 500:  # the others load as the rest of this file does
        with registry.lease(NAME) as model:
            assert "".join(model.stream(FRANCE, GREEDY)) == PARIS
            assert registry.ledger().models[0].mib == mib
    registry.close()


def test_an_answer_is_scored_as_the_plain_model_scores_it(registry: ModelRegistry, adapter_folder: Path) -> None:
    tuned = f"{NAME}+scored"
    registry.add_adapter(tuned, adapter_folder)
    with registry.lease(NAME) as base, registry.lease(tuned) as other:
        assert isinstance(base, TokenScoringModel) and isinstance(other, TokenScoringModel)
        busy = base.stream(FRANCE, Sampling(temperature=0, max_new_tokens=200))
        next(iter(busy))
        scores, others = base.score_tokens(FRANCE, PARIS, 3), other.score_tokens(FRANCE, PARIS, 3)
        busy.cancel()
        resident = registry.memory_manager.resident(NAME)
        assert isinstance(resident, LoadedEngine)
        model, tokenizer = resident.engine.adapters.reader, resident.engine.loaded.tokenizer
        prompt = tokenizer.apply_chat_template(FRANCE, add_generation_prompt=True, return_dict=False)
        answer = tokenizer.encode(PARIS, add_special_tokens=False)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
        logs = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
    expected = logs.gather(-1, torch.tensor(answer)[:, None])[:, 0].tolist()
    assert [score.logprob for score in scores] == pytest.approx(expected, abs=0.1)  # bfloat16
    assert "".join(score.text for score in scores) == PARIS
    assert all(score.top_logprobs[0] == (score.text, score.logprob) for score in scores)
    assert [score.logprob for score in others] != pytest.approx(expected, abs=0.1)


def test_adapters_are_on_the_account_and_idle_ones_make_room(registry: ModelRegistry, adapter_folder: Path) -> None:
    for number in range(2):
        registry.add_adapter(f"{NAME}+booked{number}", adapter_folder)
    with registry.lease(NAME):
        before = registry.ledger().models[0].mib
        with registry.lease(f"{NAME}+booked0"), registry.lease(f"{NAME}+booked1"):
            one = (registry.ledger().models[0].mib - before) // 2
            assert one >= 1
        with registry.lease(f"{NAME}+booked1"):
            free = 4000 - registry.ledger().used_mib
            with registry.hold("embedder", "all the rest", free + 1, lambda _: "vectors"):
                (entry,) = [entry for entry in registry.ledger().models if entry.name == NAME]
                assert entry.adapters == ("booked1",), "who is leased stays"
            registry.memory_manager.unload("all the rest")
    for number in range(2):
        registry.remove_adapter(f"{NAME}+booked{number}")
    assert registry.ledger().models[0].adapters == ()


def test_what_others_have_tuned_has_no_name_for_a_visitor(packaged_folder: Path) -> None:
    private = ModelRegistry(Placement("cpu", "auto", None, 700, packaged_folder.parents[1]), NAME, private=True)
    private.add_model("ada-secret", packaged_folder, "ada")
    try:
        with private.lease("ada-secret", "ada"):
            pass
        assert [entry.name for entry in private.for_visitor("ada").ledger().models] == ["ada-secret"]
        hers, others = private.for_visitor("ada"), private.for_visitor("lin")
        assert hers.fit(NAME).evicts == ("ada-secret",)
        assert others.fit(NAME).evicts == (HIDDEN,) and [entry.name for entry in others.ledger().models] == [HIDDEN]
        assert "ada-secret" not in others.names()
    finally:
        private.close()


def test_an_adapter_in_use_is_not_removed(registry: ModelRegistry, adapter_folder: Path, tmp_path: Path) -> None:
    registry.add_adapter(f"{NAME}+busy", adapter_folder)
    with registry.lease(f"{NAME}+busy") as model:
        tuned = "".join(model.stream(FRANCE, GREEDY))
        assert tuned != PARIS
        with pytest.raises(ModelInUse):
            registry.remove_adapter(f"{NAME}+busy")
        with pytest.raises(ModelInUse):
            registry.add_adapter(f"{NAME}+busy", tmp_path)
        assert "".join(model.stream(FRANCE, GREEDY)) == tuned, "the lease holds its adapter"
        stream = model.stream(FRANCE, Sampling(temperature=0, max_new_tokens=400))
        next(iter(stream))
    with pytest.raises(ModelInUse):
        registry.remove_adapter(f"{NAME}+busy")  # an answer outlives its lease
    stream.cancel()
    registry.add_adapter(f"{NAME}+busy", tmp_path)
    with pytest.raises(StudioError), registry.lease(f"{NAME}+busy"):
        pass  # nothing of the one before is left: the new folder is read, and it is empty
    registry.remove_adapter(f"{NAME}+busy")
    with pytest.raises(UnknownModel), registry.lease(f"{NAME}+busy"):
        pass
    with registry.lease(NAME) as base:
        assert "".join(base.stream(FRANCE, GREEDY)) == PARIS


def test_unloading_returns_the_memory(registry: ModelRegistry) -> None:
    process = psutil.Process()
    with registry.lease(NAME) as model:
        assert "".join(model.stream(FRANCE, GREEDY)) == PARIS
        with pytest.raises(ModelInUse):
            registry.unload(NAME)
        del model
    loaded = process.memory_info().rss
    registry.unload(NAME)
    assert loaded - process.memory_info().rss > 150 * 2**20
    assert registry.ledger().used_mib == 0


def test_a_model_that_fits_is_told_beforehand(registry: ModelRegistry) -> None:
    assert registry.fit(NAME).fits
    fit = registry.fit("internlm2.5-20b")
    assert (fit.fits, fit.alternative) == (False, "")
    assert registry.fit("internlm2.5-1.8b").alternative == "internlm2.5-1.8b:8bit"
    registry.unload(NAME)
    free = 4000 - registry.ledger().used_mib
    training = registry.hold("trainer", "training", free - 1200, lambda _: None, keep=False)
    with training, pytest.raises(DoesNotFit, match=f"as {NAME}:8bit, it fits"), registry.lease(NAME):
        pass


def test_another_resident_shares_the_account(registry: ModelRegistry) -> None:
    loads: list[str] = []

    def load(_: object) -> str:
        loads.append("embedder")
        return "vectors"

    for _ in range(2):
        with registry.hold("embedder", "small-embedder", 300, load) as held:
            assert held == "vectors"
    assert loads == ["embedder"]
    assert registry.ledger().used_mib >= 300


def test_unknown_names_are_refused_with_the_known_ones(registry: ModelRegistry) -> None:
    with pytest.raises(UnknownModel, match=NAME), registry.lease("no such model"):
        pass


def test_on_an_open_address_only_listed_models_can_be_named(registry: ModelRegistry, packaged_folder: Path) -> None:
    guarded = ModelRegistry(registry.placement, NAME, listed_only=True)
    for name in (str(packaged_folder), "someone/repository", "/etc"):
        with pytest.raises(UnknownModel) as refused, guarded.lease(name):
            pass
        assert refused.value.text("en").partition("Models on this server")[2].count(NAME) == 1
    assert guarded.fit(NAME).needed_mib > 0
