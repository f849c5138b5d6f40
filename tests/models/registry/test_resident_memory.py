"""The account beside the memory that the system sees: in use, and given back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOAD_AND_UNLOAD = """
import gc, json, sys
from pathlib import Path
import psutil
from app.process import prepare_process
prepare_process("error")
from app.models.catalog.known_models import PACKAGED
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry

def mib():
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20

def load_and_ask(name):
    with registry.lease(name) as model:
        "".join(model.stream([{"role": "user", "content": "Hi"}], Sampling(max_new_tokens=4)))
    return mib(), registry.ledger().used_mib

data, tiny = sys.argv[1:]
registry = ModelRegistry(Placement("cpu", "auto", None, 4000, Path(data)), PACKAGED)
load_and_ask(tiny)  # libraries and kernels stay
registry.unload(tiny)
empty = mib()
used, booked = load_and_ask(PACKAGED + ":full")
registry.unload(PACKAGED + ":full")
print(json.dumps({"grown": used - empty, "booked": booked, "left": mib() - empty}))
registry.close()
"""


@pytest.mark.slow
def test_the_account_is_what_the_process_holds_and_gives_back(packaged_folder: Path, tiny_base: str) -> None:
    command = [sys.executable, "-c", LOAD_AND_UNLOAD, str(packaged_folder.parents[1]), tiny_base]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["grown"] == pytest.approx(found["booked"], rel=0.15), found
    assert found["left"] < 0.1 * found["booked"], found
