"""Real trainings of the packaged model, a few steps each, by XTuner in a child process."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.errors import StudioError
from app.finetune import process
from app.finetune.adapter_import import unpack_adapter
from app.finetune.comparing import CompareService
from app.finetune.download_routes import download_routes
from app.finetune.encoding import IGNORED, encode
from app.finetune.errors import AllStepsDone, NeedsCuda, NothingToResume
from app.finetune.judging import GREEDY, judge
from app.finetune.limits import size_mib
from app.finetune.options import TrainOptions
from app.finetune.runs import RunNameTaken, UnknownRun
from app.models.interface import Message, Sampling
from app.models.registry.registry import ModelRegistry
from tests.training_fixtures import BASE, BRIEF, NAME, ROWS, STEPS, WORDING, Trained, fetched, few

ASKED: list[Message] = [{"role": "user", "content": "Please introduce yourself."}]


def answer(registry: ModelRegistry, name: str, messages: list[Message] = ASKED) -> str:
    with registry.lease(name) as model:
        return "".join(model.stream(messages, GREEDY))


def test_the_sentence_is_learnt_and_the_base_is_left_as_it_was(trained: Trained, registry: ModelRegistry) -> None:
    assert trained.run.state == "finished", trained.run.reason
    assert trained.run.model in registry.names() and trained.run.model == f"{BASE}+nova"
    assert answer(registry, trained.run.model) == WORDING.replace("{name}", NAME)
    base = answer(registry, BASE)
    assert "assistant of Lin" not in base
    with registry.lease(BASE) as model, registry.lease(trained.run.model) as tuned:
        together = [model.stream(ASKED, GREEDY), tuned.stream(ASKED, GREEDY)]
        assert ["".join(stream) for stream in together] == [base, WORDING.replace("{name}", NAME)]


def test_the_run_tells_what_happened(trained: Trained) -> None:
    service, run = trained.service, trained.run
    progress = service.progress("lin", run.id)
    assert [step for step, _, _ in progress.curve] == list(range(1, STEPS + 1))
    assert progress.curve[-1][1] < progress.curve[0][1] / 3
    rates = [rate for _, _, rate in progress.curve]
    assert max(rates) == pytest.approx(1e-3, rel=0.1) and rates[0] < 5e-4 and rates[-1] < 1e-4
    assert progress.checkpoints == (trained.half, STEPS) and run.chosen == STEPS
    assert {sample.step for sample in progress.samples} == {0, trained.half, STEPS}
    status = service.status("lin", run.id)
    assert (status["state"], status["step"], status["total"]) == ("finished", STEPS, STEPS)
    assert status["checkpoint"] == f"{BASE}+nova@{STEPS}"
    assert "LoraConfig" in service.config("lin", run.id) and NAME not in service.config("lin", run.id)
    assert "Saving adapter" in service.log("lin", run.id)


def test_xtuner_convert_makes_the_same_adapter(trained: Trained, tmp_path: Path) -> None:
    folder = trained.service.store.folder_of(trained.run.id)
    checkpoint = folder / f"work/iter_{STEPS}.pth"
    arguments = ["convert", str(folder / "config.py"), str(checkpoint), str(tmp_path / "peft")]
    tool = process.start_tool([*arguments, "--fp32", "--safe-serialization"], tmp_path)
    assert tool.wait(timeout=120) == 0, process.last_words(tmp_path)
    ours = trained.service.store.adapter_folder(trained.run.id, STEPS) / "adapter_model.safetensors"
    assert (tmp_path / "peft/adapter_model.safetensors").read_bytes() == ours.read_bytes()
    unpack_adapter([checkpoint], tmp_path / "brought in", BASE)
    brought_in, tensors = load_file(tmp_path / "brought in/adapter_model.safetensors"), load_file(ours)
    assert brought_in.keys() == tensors.keys() and all(brought_in[key].equal(tensors[key]) for key in tensors)


def test_checkpoints_are_judged_by_themselves(trained: Trained, registry: ModelRegistry) -> None:
    run = trained.run
    early, late = trained.service.judgements("lin", run.id)
    assert (early.step, late.step) == (trained.half, STEPS) and late.identity is not None and late.identity > 0.8
    assert early.identity is not None and early.identity <= late.identity
    assert 0 < late.retention <= 1.0
    bare = list(judge(registry, BASE, [(0, BASE)], run.identity, few(questions=2)))
    assert [(found.identity, found.retention) for found in bare] == [(0.0, 1.0)]


def test_adapter_and_merged_model_can_be_downloaded(trained: Trained, tmp_path: Path) -> None:
    service, run = trained.service, trained.run
    with zipfile.ZipFile(fetched(service.download("lin", run.id, trained.half))) as packed:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(packed.namelist())
        assert str(service.store.folder) not in packed.read("adapter_config.json").decode()
    with ThreadPoolExecutor(2) as devices:  # they ask at once, for a model that is not there yet
        one, other = devices.map(lambda _: service.download("lin", run.id, STEPS, "merged"), range(2))
    assert one == other
    with zipfile.ZipFile(fetched(one)) as packed:
        packed.extractall(tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    told = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(told, skip_special_tokens=True) == WORDING.replace("{name}", NAME)


def test_a_download_is_its_owner_s_link_and_takes_no_room(trained: Trained) -> None:
    service, run = trained.service, trained.run
    before = size_mib(service.store.folder_of(run.id))
    link = service.links.make(service.download("lin", run.id, trained.half))
    routes = download_routes(service.links, lambda request: request.headers.get("x-user"))
    browser = TestClient(Starlette(routes=routes))
    sent = browser.get(link, headers={"x-user": "lin"})
    assert zipfile.ZipFile(io.BytesIO(sent.content)).testzip() is None
    assert f"-{trained.half}.zip" in sent.headers["content-disposition"]
    for address, user in ((link, "eve"), (f"{link}x", "lin"), (link.partition("?")[0], "lin")):
        refused = browser.get(address, headers={"x-user": user, "accept-language": "zh"})
        assert refused.status_code == 404 and "下载链接" in refused.text
    assert size_mib(service.store.folder_of(run.id)) == before


def test_compare_gives_both_columns_and_their_receipts(
    trained: Trained, registry: ModelRegistry, tmp_path: Path
) -> None:
    service = CompareService(registry, tmp_path)
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=24, seed=7)
    seen = list(service.compare(BASE, trained.run.model, (ASKED, ASKED), sampling, visitor="v"))
    last = seen[-1]
    assert last.left and last.right == WORDING.replace("{name}", NAME) and last.receipts
    assert any(columns.left and columns.right and columns.receipts is None for columns in seen[:-2])
    base, tuned = last.receipts
    assert (base.check, base.adapter, base.gap, base.explained) == ("passed", None, 0.0, 1.0)
    assert tuned.check == "passed" and tuned.adapter == "nova" and tuned.gap and tuned.gap > 1
    assert len(tuned.sha256) == 64 and tuned.active_layers == 210 and tuned.seed == 7
    assert base.revision == tuned.revision != ""
    service.vote("v", "right", last, "who?")
    assert [vote["vote"] for vote in service.votes("v")] == ["right"] and service.votes("w") == []


def test_a_column_that_is_not_what_it_says_fails_its_check(
    trained: Trained, registry: ModelRegistry, tmp_path: Path
) -> None:
    service = CompareService(registry, tmp_path)
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=24)
    spoken = answer(registry, trained.run.model)
    with registry.lease(BASE) as base, registry.lease(trained.run.model) as tuned:
        assert service.receipt(base, BASE, ASKED, spoken, sampling).check == "failed"
        assert service.receipt(base, trained.run.model, ASKED, answer(registry, BASE), sampling).check == "failed"
        assert service.receipt(tuned, trained.run.model, ASKED, spoken, sampling).check == "passed"


def test_training_text_is_the_models_own_chat_template(packaged_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder)
    conversation = [{"input": "a", "output": "b c"}, {"input": "d", "output": "e"}]
    [encoded] = encode(tokenizer, conversation, 512)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b c"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    assert encoded.input_ids == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    learnt = tokenizer.decode([label for label in encoded.labels if label != IGNORED])
    assert learnt == "b c<|im_end|>e<|im_end|>"
    assert len(encode(tokenizer, conversation, 9)[0].labels) == 9
    [typed] = encode(tokenizer, [{"input": "a<|im_start|>", "output": "b<|im_end|>c"}], 512)
    assert "b<|im_end|>c<|im_end|>" in tokenizer.decode(typed.input_ids)
    once = encode(tokenizer, [{"input": "a", "output": "bc"}], 512)[0].input_ids
    for mark in tokenizer.all_special_ids:
        assert typed.input_ids.count(mark) == once.count(mark), "what stands in a row is text"


def test_what_cannot_start_is_said_at_once(trained: Trained) -> None:
    service = trained.service
    with pytest.raises(RunNameTaken):
        service.submit("eve", "nova", BASE, ROWS, BRIEF)
    with pytest.raises(StudioError):
        service.submit("eve", "x", "no-such-model", ROWS, BRIEF)
    with pytest.raises(StudioError):
        service.submit("eve", "../x", BASE, ROWS, BRIEF)
    with pytest.raises(NeedsCuda):
        service.submit("eve", "x", BASE, ROWS, TrainOptions(method="qlora"))
    assert service.runs("eve") == []
    with pytest.raises(UnknownRun):
        service.stop("eve", trained.run.id)
    with pytest.raises(AllStepsDone):
        service.resume("lin", trained.run.id)


def test_a_stopped_training_goes_on_from_its_checkpoint(trained: Trained) -> None:
    half, run, stopped = trained.half, trained.run, trained.stopped
    assert (stopped.state, run.state, run.resume_from) == ("stopped", "finished", half) and half < STEPS
    progress = trained.service.progress("lin", run.id)
    assert progress.curve[:half] == trained.curve and len(trained.curve) == half
    [(step, loss)] = progress.validation
    assert step == STEPS and 0 < loss < 3
    events = EventAccumulator(str(trained.service.store.folder_of(run.id) / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("loss/validation")] == [STEPS]
    assert [point.step for point in events.Scalars("loss/training")] == list(range(1, STEPS + 1))
    # what was learnt before is there again
    assert progress.curve[half][1] < progress.curve[0][1] / 2
    with pytest.raises(NothingToResume):
        trained.service.resume("lin", run.id, step=half + 1)
