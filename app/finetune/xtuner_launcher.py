"""Run an XTuner 0.2.0 tool in this interpreter, with fixes for newer transformers.

usage: python -m app.finetune.xtuner_launcher TOOL ARGUMENTS...

XTuner's own command starts whatever `python` is in PATH, exits 0 after a crash and leaves its child running.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import types
from pathlib import Path

from app.finetune.events import tell_phase
from app.process import no_garbage_collection

TOOLS = {
    "train": "xtuner.tools.train",
    "convert": "xtuner.tools.model_converters.pth_to_hf",
}


def stand_in(name: str, **attributes: object) -> None:
    """A module that XTuner imports for its image data sets and never calls when it trains on text."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module
    if "." in name:
        parent, leaf = name.rsplit(".", 1)
        setattr(sys.modules[parent], leaf, module)


def mend() -> None:
    """What XTuner 0.2.0 expects and newer libraries or a machine without CUDA do not have."""
    # mmengine's checkpoints hold its own classes; they are this run's own files
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    import torch

    if not torch.cuda.is_available() and not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda: True  # type: ignore[attr-defined]
    if not torch.cuda.is_available():  # it is for QLoRA on CUDA, and its import takes a fifth of a training's start
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    # transformers must look for torchvision before a stand-in takes its place
    import transformers.utils

    if not hasattr(transformers.utils, "is_safetensors_available"):
        setattr(transformers.utils, "is_safetensors_available", lambda: True)  # noqa: B010
    if importlib.util.find_spec("torchvision") is None:
        stand_in("torchvision", __version__="0.0.0")
        stand_in("torchvision.transforms")
        bicubic = type("InterpolationMode", (), {"BICUBIC": "bicubic"})
        stand_in("torchvision.transforms.functional", InterpolationMode=bicubic)
    if importlib.util.find_spec("skimage") is None:
        stand_in("skimage")
        stand_in("skimage.io")


def main() -> None:
    tool = TOOLS[sys.argv[1]]
    if sys.argv[1] == "train":
        tell_phase(Path.cwd(), "libraries")
    with no_garbage_collection():
        mend()
        importlib.import_module("app.finetune.xtuner_plugin")
    sys.argv = [tool, *sys.argv[2:]]
    runpy.run_module(tool, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
