"""Linear layers in 8 and 4 bits on a processor: what they say, what they hold, and that adapters stand on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM

from app.models.interface import Message, Sampling
from app.models.loading.cpu_quantization import QuantizedLinear, narrow
from app.models.registry.model_spec import LoadedEngine
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter

NAME = "smollm2-135m:8bit"
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = Sampling(temperature=0, max_new_tokens=8)


@pytest.mark.parametrize(("bits", "most", "held"), [(8, 0.01, 1.0), (4, 0.08, 0.5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_says_nearly_what_its_weights_say(bits: int, most: float, held: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 64) * 0.02 + 0.005
    weight[3] = 0
    layer = QuantizedLinear(64, 48, device="meta")
    layer.weight, layer.scales = (nn.Parameter(part, requires_grad=False) for part in narrow(weight, bits))
    layer.bias = nn.Parameter(torch.randn(48, dtype=dtype))
    x = torch.randn(2, 5, 64, dtype=dtype)
    with torch.no_grad():
        said, truth = layer(x), linear(x.float(), weight, layer.bias.float())
    assert said.shape == (2, 5, 48) and said.dtype == dtype
    assert (said - truth).norm() < most * truth.norm()
    assert layer.weight.nbytes == held * weight.numel()


@pytest.fixture(scope="module")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    registry = ModelRegistry(Placement("cpu", "bfloat16", None, 4000, packaged_folder.parents[1]), "smollm2-135m")
    yield registry
    registry.close()


def test_a_checkpoint_is_smaller_and_answers_with_and_without_an_adapter(
    registry: ModelRegistry, packaged_folder: Path, tmp_path: Path
) -> None:
    with registry.lease(NAME) as model:
        assert "Paris" in "".join(model.stream(FRANCE, GREEDY))
        resident = registry.memory_manager.resident(NAME)
        assert isinstance(resident, LoadedEngine)
        base = resident.engine.loaded.model
        kinds = {name.rpartition(".")[2]: type(module) for name, module in base.named_modules()}
        assert kinds["q_proj"] is kinds["down_proj"] is QuantizedLinear and kinds["lm_head"] is nn.Linear
    entry = registry.ledger().models[0]
    assert entry.full_mib == 257 and entry.mib == pytest.approx(156, abs=2)
    full = AutoModelForCausalLM.from_pretrained(packaged_folder)
    folder = save_adapter(full, tmp_path / "adapter", seed=1, target_modules=["q_proj", "down_proj"])
    registry.add_adapter(f"{NAME}+tuned", folder)
    with registry.lease(NAME) as model, registry.lease(f"{NAME}+tuned") as tuned:
        plain, other = ("".join(asked.stream(FRANCE, GREEDY)) for asked in (model, tuned))
    assert "Paris" in plain and other != plain
