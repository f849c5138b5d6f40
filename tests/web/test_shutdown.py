"""Shutdown on SIGTERM: an answer under way is finished, and the process ends with status 0."""

import signal
from pathlib import Path

from gradio_client import Client

from tests.real_server import running
from tests.web.test_real_server import FRANCE, PARIS


def test_an_answer_under_way_is_finished_when_the_server_ends(packaged_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(packaged_folder.parent)
    with running(tmp_path) as server:
        client = Client(server.address, verbose=False)
        job = client.submit(FRANCE, temperature=0, max_new_tokens=64, api_name="/chat")
        for _ in job:
            break
        server.process.send_signal(signal.SIGTERM)
        assert job.result(60) == PARIS
        assert server.process.wait(60) == 0
