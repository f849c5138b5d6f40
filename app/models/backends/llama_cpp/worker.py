"""Entry point of the child process that runs llama.cpp's server. Started by `process.py`, never imported.

Reads its settings as one JSON line, says where it listens, and ends with its parent.
"""

import json
import os
import select
import sys
from typing import Any

CHECK_SECONDS = 2.0
# Tokens of prompts read in one step, while all answers that run stand still: a processor takes seconds for 512.
LONGEST_STEP = 64
LONGEST_STEP_ON_GPU = 512


def main() -> None:
    import xllamacpp

    wanted = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    set_up(params, wanted)
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening {server.listening_address}\n")
    sys.stdout.flush()
    wait_for_the_end(os.getppid())
    os._exit(0)  # nothing to save, and no time for requests that nobody waits for


def set_up(params: Any, wanted: dict[str, Any]) -> None:
    """API key required; web pages, slot monitoring and metrics are off."""
    params.model.path = wanted["file"]
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [wanted["key"]]
    params.ui = params.endpoint_slots = params.endpoint_metrics = False
    params.n_parallel, params.n_ctx, params.kv_unified = wanted["slots"], wanted["cache_tokens"], True
    params.n_batch = LONGEST_STEP_ON_GPU if wanted["gpu_layers"] else LONGEST_STEP
    params.cache_ram_mib = 0  # parked prompts would be memory that is on no account
    params.cache_type_k = params.cache_type_v = wanted["cache_type"]
    params.n_gpu_layers = wanted["gpu_layers"]
    params.fit_params = params.ctx_shift = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted["threads"]
    params.verbosity = 1


def wait_for_the_end(parent: int) -> None:
    """Until the parent closes the pipe or is no more: a fork of it may hold the pipe open."""
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], CHECK_SECONDS)[0]:
            return


if __name__ == "__main__":
    main()
