"""Memory need and loading of models that other engines serve: by URL, or vLLM, LMDeploy and SGLang as our child."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

import torch

from app.errors import ModelError
from app.models.backends.openai_server.address import EngineAddress, EngineLaunch
from app.models.backends.openai_server.engine import RemoteEngine
from app.models.backends.openai_server.launched_engine import LocalServerEngine
from app.models.backends.openai_server.launched_server import LocalServer
from app.models.catalog import known_models, sources
from app.models.registry import device_memory
from app.models.registry.model_spec import ModelSpecs
from app.models.registry.placement import Placement
from app.models.registry.resident import ModelSpec

LEAST_CACHE_GIB = 1


def engine_spec(address: EngineAddress, where: Placement, usual_context: int) -> ModelSpec:
    """Of an engine elsewhere, which takes no memory here, or of one that is launched."""
    if address.launch is not None:
        return launched_spec(address, address.launch, where, usual_context)
    return ModelSpec(
        name=address.name,
        kind="remote",
        needed_mib=lambda: 0,
        load=lambda _: RemoteEngine(address, usual_context).connect(),
    )


def bases_served(specs: ModelSpecs, engines: Mapping[str, EngineAddress]) -> dict[str, str]:
    """Of engines that can be given adapters: the public name of the base that each serves."""
    found = {}
    for name, address in engines.items():
        if address.launch is not None and address.launch.takes_adapters:
            with suppress(ModelError):
                found[name] = specs.named(known_models.find(address.launch.model).name)
    return found


def launched_spec(address: EngineAddress, launch: EngineLaunch, where: Placement, usual_context: int) -> ModelSpec:
    """How to get it: booked with its weights and a cache first, then with what it really takes."""
    on_gpu = where.device == "cuda"
    working_mib = device_memory.working_mib(where.budget_mib)

    def needed_mib() -> int:
        return _weights_mib(launch.model) + working_mib

    def load(_report: object) -> RemoteEngine:
        log_file = where.data / "engines" / f"{address.name}.log"
        # what vLLM's processor build keeps for its cache, in GiB
        defaults = {"VLLM_CPU_KVCACHE_SPACE": str(max(LEAST_CACHE_GIB, working_mib // 1024))}
        given = _with_gpu_share(launch, needed_mib()) if on_gpu else launch
        server = LocalServer(address.name, given, log_file, defaults)
        return LocalServerEngine(server, usual_context, where.device, _gpu_used_mib if on_gpu else None).connect()

    return ModelSpec(name=address.name, kind="chat", needed_mib=needed_mib, load=load)


@lru_cache
def _weights_mib(model: str) -> int:
    """Of a model in the catalog, in a folder or on the hub; 0 where nobody can say."""
    with suppress(ModelError):
        card = known_models.find(model)
        return (card if card.parameters or card.gguf else sources.describe(card)).mib("bfloat16", None)
    return 0


def _with_gpu_share(launch: EngineLaunch, needed_mib: int) -> EngineLaunch:
    """vLLM takes nine tenths of a GPU unless it is told how much is its own."""
    if launch.kind != "vllm" or any(option.startswith("--gpu-memory-utilization") for option in launch.options):
        return launch
    total = torch.cuda.mem_get_info()[1] / 2**20
    share = f"--gpu-memory-utilization={min(0.9, needed_mib / total):.2f}"
    return EngineLaunch(launch.kind, launch.model, launch.environment, (share, *launch.options))


def _gpu_used_mib() -> int:
    free, total = torch.cuda.mem_get_info()
    return (total - free) // 2**20
