"""What the measurements share: JSON lines, the machine's name, percentiles, the packaged model."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from app.models.catalog import known_models, sources
from app.models.loading.loader import LoadedModel, load
from app.models.loading.packed_linear import pack
from app.openmp_threads import compute_alone

DATA = Path("data")


def line(**values: object) -> None:
    """One JSON line; floats to three digits."""
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}), flush=True)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists() and not torch.cuda.is_available():
        models = [row for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
        name = models[0].partition(": ")[2] if models else name
    return {"machine": name, "cores": psutil.cpu_count(), "torch": torch.__version__}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def packaged_model(device: str = "cpu", packed: bool = True) -> LoadedModel:
    """SmolLM2-135M as the server loads it; its layers plain where they are not to be `packed`."""
    card = known_models.find(known_models.PACKAGED)
    folder = sources.fetch(card, DATA / "models", lambda *_: None)
    compute_alone()
    loaded = load(folder, card, device, "auto", None, lambda *_: None)
    if packed and device == "cpu":
        pack(loaded.model)
    return loaded
