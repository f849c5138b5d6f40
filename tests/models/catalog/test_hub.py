"""Downloads from a hub on this machine: whole or not at all, going on where they stopped, failing with a sentence."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from app.errors import DownloadFailed
from app.models.catalog import known_models, sources
from app.models.catalog.atomic_folder import DiskFull
from app.models.catalog.download_command import download
from app.models.catalog.hub import (
    DamagedDownload,
    HubOffline,
    HubRefused,
    HubUnreachable,
    NeedsAccess,
    NoSuchFile,
    NoSuchRepository,
    OnlyGguf,
)
from app.models.loading.checkpoint import NoWeights
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.catalog.fake_hub import FakeHub, in_reach, point_at, running

CARD = known_models.find("someone/model")
CONFIG = json.dumps({"model_type": "llama", "max_position_embeddings": 128}).encode()


def safetensors(values: int, dtype: str = "U8", size: int = 1) -> bytes:
    header = json.dumps({"w": {"dtype": dtype, "shape": [values], "data_offsets": [0, values * size]}}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(values * size)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {
        "config.json": CONFIG,
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors(3 * 2**20),
        "pytorch_model.bin": b"p" * 5000,
        "modeling_own.py": b"raise SystemExit",
        "onnx/config.json": b"{}",
        "README.md": b"#",
    }
    with running(FakeHub(files)) as started:
        in_reach(started, tmp_path / "hub", monkeypatch)
        yield started


def fetch(seen: list[tuple[float, str]] | None = None) -> Path:
    return sources.fetch(CARD, Path("unused"), lambda *step: seen.append(step) if seen is not None else None)


def partials(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hub").rglob("partial/*") if path.suffix != ".lock"]


def test_only_what_loading_reads_arrives_and_progress_counts_its_bytes(
    hub: FakeHub, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, str]] = []
    folder = fetch(seen)
    assert sorted(path.name for path in folder.rglob("*")) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert len(fractions) > 4
    assert any(detail == "3 / 3 MiB" for _, detail in seen)
    assert capfd.readouterr() == ("", ""), "the terminal is the caller's"


def test_what_is_here_is_used_without_asking(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch()
    hub.asked.clear()
    assert fetch() == folder
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch() == folder


def test_a_cut_connection_goes_on_where_it_stopped(hub: FakeHub) -> None:
    hub.cut, hub.cuts = 2**20, 2
    folder = fetch()
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    starts = [int(wanted.removeprefix("bytes=")[:-1]) for wanted in hub.sent_ranges("model.safetensors") if wanted]
    assert starts == [0, 2**20, 2 * 2**20]


def test_after_a_killed_process_the_next_one_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut, hub.cuts = 2**20, 100
    command = [sys.executable, "-m", "tests.models.catalog.fetch_in_child", hub.url, tmp_path / "hub"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    while "2 / 3 MiB" not in child.stdout.readline():
        assert child.poll() is None
    child.kill()
    child.communicate()
    assert not list((tmp_path / "hub").rglob("snapshots/*/model.safetensors"))
    hub.cuts = 0
    hub.asked.clear()
    assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    (wanted,) = hub.sent_ranges("model.safetensors")
    assert wanted and int(wanted.removeprefix("bytes=")[:-1]) >= 2 * 2**20
    assert partials(tmp_path) == []


def test_a_server_without_ranges_sends_it_all_again(hub: FakeHub) -> None:
    hub.ranges = False
    hub.cut, hub.cuts = 2**20, 1
    assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_an_incomplete_download_is_never_taken_for_a_model(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.broken = 404
    with pytest.raises(DownloadFailed):
        fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOffline):
        fetch()


def test_a_cache_that_lost_a_file_is_not_taken_for_a_model(hub: FakeHub) -> None:
    folder = fetch()
    (folder / "tokenizer.json").unlink()
    assert (fetch() / "tokenizer.json").exists()
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1])
    assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_other_bytes_than_promised_are_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    hub.spoiled = True
    with pytest.raises(DamagedDownload) as failure:
        fetch()
    assert "model.safetensors" in failure.value.text("zh")
    assert not any(path.stat().st_size == len(hub.files["model.safetensors"]) for path in partials(tmp_path))
    hub.spoiled = False
    assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_server_in_trouble_is_asked_again(hub: FakeHub) -> None:
    hub.broken, hub.broken_for = 503, 2
    assert (fetch() / "model.safetensors").exists()


@pytest.mark.parametrize(("status", "kind"), [(403, NeedsAccess), (410, HubRefused)])
def test_a_refusal_is_final_and_names_the_host(hub: FakeHub, status: int, kind: type[DownloadFailed]) -> None:
    hub.broken = status
    with pytest.raises(kind) as failure:
        fetch()
    assert "127.0.0.1" in failure.value.text("zh")
    assert len(hub.sent_ranges("model.safetensors")) <= 1


def test_a_file_shorter_than_promised_is_given_up(hub: FakeHub) -> None:
    hub.promised = len(hub.files["model.safetensors"]) + 10
    with pytest.raises(DamagedDownload):
        fetch()


def test_another_server_never_sees_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with running(FakeHub(hub.files)) as store:
        hub.elsewhere = store.url.replace("127.0.0.1", "localhost")
        assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
        assert store.sent_ranges("model.safetensors") and store.tokens == {None}


def test_two_at_once_fetch_each_file_once(hub: FakeHub) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(), range(2))
    assert first == second
    assert len(hub.sent_ranges("model.safetensors")) == 1


@pytest.mark.usefixtures("hub")
def test_no_such_repository() -> None:
    with pytest.raises(NoSuchRepository) as failure:
        sources.fetch(known_models.find("someone/else"), Path("unused"), lambda *_: None)
    assert "someone/else" in failure.value.text("zh") and "HF_TOKEN" in failure.value.text("en")


def test_a_private_repository_wants_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_right"
    with pytest.raises(NeedsAccess) as failure:
        fetch()
    assert "HF_TOKEN" in failure.value.text("zh")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (fetch() / "config.json").read_bytes() == CONFIG


@pytest.mark.timeout(60)  # it does not try again and again
@pytest.mark.usefixtures("hub")
def test_no_network_fails_quickly_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(HubUnreachable) as failure:
        fetch()
    assert "127.0.0.1" in failure.value.text("zh") and "HF_ENDPOINT" in failure.value.text("en")


def test_too_little_space_is_seen_before_anything_comes(hub: FakeHub) -> None:
    hub.files["model.safetensors"] = b"x" * 2**20
    hub.promised = 2**60
    with pytest.raises(DiskFull):
        fetch()
    assert not hub.sent_ranges("model.safetensors")


def test_a_disk_that_fills_up_is_a_sentence_and_no_model(hub: FakeHub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.models.catalog.fetch_in_child", hub.url, tmp_path / "hub", str(2**20)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "disk is too full" in child.stdout, child.stderr[-2000:]
    assert not list((tmp_path / "hub").rglob("snapshots/*/model.safetensors"))
    assert (fetch() / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_repository_without_weights_is_said_before_downloading(hub: FakeHub) -> None:
    del hub.files["model.safetensors"], hub.files["pytorch_model.bin"]
    with pytest.raises(NoWeights):
        fetch()
    assert not hub.sent_ranges("config.json")


def test_a_repository_of_gguf_files_says_how_to_name_one(hub: FakeHub) -> None:
    del hub.files["model.safetensors"], hub.files["pytorch_model.bin"]
    hub.files["q4/small.gguf"] = b"g"
    with pytest.raises(OnlyGguf) as failure:
        fetch()
    assert "someone/model#q4/small.gguf" in failure.value.text("zh")


def test_a_split_gguf_file_comes_with_all_its_parts_as_one_download(hub: FakeHub) -> None:
    parts = [f"q8/big-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    hub.files |= dict.fromkeys(("q4/big.gguf", "top.gguf"), b"another") | {part: os.urandom(2**20) for part in parts}
    seen: list[tuple[float, str]] = []
    card = known_models.find(f"someone/model#{parts[0]}")
    folder = sources.fetch(card, Path("unused"), lambda *step: seen.append(step))
    arrived = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert arrived == parts
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert seen[-1] == (1, "3 / 3 MiB")
    hub.asked.clear()
    assert sources.fetch(card, Path("unused"), lambda *_: None) == folder and hub.asked == []
    (folder / parts[1]).unlink()
    assert sources.fetch(card, Path("unused"), lambda *_: None) == folder and (folder / parts[1]).exists()


def test_pickles_come_where_there_is_nothing_better(hub: FakeHub) -> None:
    del hub.files["model.safetensors"]
    assert (fetch() / "pytorch_model.bin").exists()


def test_the_size_is_known_beforehand(hub: FakeHub) -> None:
    card = sources.describe(CARD)
    assert card.parameters == len(hub.files["model.safetensors"]) // 2
    assert card.mib("bfloat16", None) == 3
    assert not hub.sent_ranges("model.safetensors")


def test_whether_it_fits_is_known_beforehand(hub: FakeHub, tmp_path: Path) -> None:
    part = "q8/big.gguf"
    hub.files |= {part: os.urandom(3 * 2**20), "model.safetensors": safetensors(2**20, "BF16", 2)}
    for name, weights_mib in (("someone/model", 4), (f"someone/model#{part}", 3)):
        registry = ModelRegistry(Placement("cpu", "float32", None, 400, tmp_path), "someone/model")
        assert registry.fit(name).needed_mib == 100 + weights_mib  # beside a quarter of the budget to work in
        assert not hub.sent_ranges("model.safetensors") and not hub.sent_ranges(part)
        sources.fetch(known_models.find(name), tmp_path, lambda *_: None)
        hub.asked.clear()
        again = ModelRegistry(Placement("cpu", "float32", None, 400, tmp_path), "someone/model")
        assert again.fit(name).needed_mib == 100 + weights_mib and not hub.asked
        with pytest.raises(DownloadFailed):
            again.fit("someone/else")
        hub.asked.clear()


def test_the_command_fetches_one_file_and_prints_its_path(hub: FakeHub, tmp_path: Path) -> None:
    out = io.StringIO()
    path = download("someone/model", "config.json", tmp_path, out)
    assert path.read_bytes() == CONFIG
    assert out.getvalue().endswith(f"100% 0 / 0 MiB\n{path}\n")
    assert not hub.sent_ranges("model.safetensors")
    with pytest.raises(NoSuchFile) as failure:
        download("someone/model", "confg.json", tmp_path, out)
    assert "confg.json" in failure.value.text("en")


@pytest.mark.usefixtures("hub")
def test_the_command_fetches_a_whole_repository(tmp_path: Path) -> None:
    out = io.StringIO()
    folder = download("someone/model", None, tmp_path, out)
    assert (folder / "model.safetensors").exists()
    assert "100% 3 / 3 MiB" in out.getvalue()
