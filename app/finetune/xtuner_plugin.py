"""XTuner data set, model and hooks named in a run's configuration; imported in the training process only."""

import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import _ParamScheduler
from torch.utils.tensorboard import SummaryWriter
from xtuner.engine.hooks import EvaluateChatHook
from xtuner.model import SupervisedFinetune
from xtuner.registry import BUILDER

from app.finetune import events
from app.finetune.data import Conversation
from app.finetune.encoding import IGNORED, Encoded, encode, question_tokens
from app.finetune.own_answers import with_own_answers
from app.models.catalog import known_models
from app.models.loading import loader


def load_tokenizer(folder: str, name: str) -> Any:
    """As the server loads it, with the template that the model is asked by."""
    return loader.tokenizer_of(Path(folder), known_models.card_of(name, Path(folder)))


def load_base(folder: str, name: str, quantise: str | None) -> Any:
    """As the server loads it, never running code that came with its files; InternLM 1 and 2 are Llama here too."""
    card = known_models.card_of(name, Path(folder))
    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    loaded = loader.load(Path(folder), card, device, dtype, quantise, lambda *_: None)
    loaded.model.generation_config.eos_token_id = list(loaded.stop_token_ids)
    return loaded.model


def chat_dataset(folder: str, name: str, run_folder: str, max_length: int) -> DatasetDict:
    """The run's conversations but those held out, in the tokens of the model's own chat template."""
    events.tell_phase(Path(run_folder), "data")
    tokenizer = load_tokenizer(folder, name)
    held_out = set(settings_of(Path(run_folder)).get("validation", ()))
    rows = [
        row
        for number, (conversation, ended) in enumerate(rows_of(Path(run_folder)))
        if number not in held_out
        for row in encode(tokenizer, conversation, max_length, ended=ended)
    ]
    return DatasetDict(train=Dataset.from_list([{"input_ids": r.input_ids, "labels": r.labels} for r in rows]))


def rows_of(run_folder: Path) -> list[tuple[Conversation, bool]]:
    """All rows as they are trained on, each with whether it is learnt to its end."""
    conversations = json.loads((run_folder / "data.json").read_text(encoding="utf-8"))
    return with_own_answers(run_folder, conversations)


def settings_of(run_folder: Path) -> dict[str, Any]:
    return dict(json.loads((run_folder / "settings.json").read_text(encoding="utf-8")))


class ChatFinetune(SupervisedFinetune):
    """XTuner's own model; the base comes from `load_base` as it is, where XTuner would first run its remote code.

    `own_answers` asks the base before it gets its adapter.
    """

    def __init__(self, own_answers: dict[str, Any] | None = None, **options: Any) -> None:
        self.own_answers = own_answers
        super().__init__(**options)

    def build_llm_from_cfg(self, *args: Any) -> Any:
        if self.own_answers:
            events.tell_phase(Path(self.own_answers["run_folder"]), "base")
        base = super().build_llm_from_cfg(*args)
        if self.own_answers:
            tokenizer = BUILDER.build(self.own_answers["tokenizer"])
            BUILDER.build({**self.own_answers, "tokenizer": tokenizer}).ask(base)
        return base

    def _dispatch_lm_model_cfg(self, cfg: Any, max_position_embeddings: int | None = None) -> Any:  # noqa: ARG002
        return cfg


class WarmupCosine(_ParamScheduler):
    """Linear to the full rate, then cosine to zero. The curve follows `total`, also when a run gets more steps."""

    def __init__(self, optimizer: Any, warmup: int, total: int, **options: Any) -> None:
        self.warmup, self.total = warmup, total
        super().__init__(optimizer, param_name="lr", **options)

    def _get_value(self) -> list[float]:
        if self.last_step < self.warmup:
            factor = (self.last_step + 1) / (self.warmup + 1)
        else:
            gone = (self.last_step - self.warmup) / max(1, self.total - self.warmup)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, gone)))
        return [base * factor for base in self.base_values]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        fixed = ("warmup", "total", "end")
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in fixed})


class RunHook(Hook):
    """Tells the run's folder what happens, a JSON line each."""

    def __init__(self, run_folder: str, accumulation: int) -> None:
        self.folder, self.accumulation = Path(run_folder), accumulation

    def tell(self, kind: str, **event: Any) -> None:
        events.tell(self.folder, kind, **event)

    def step_of(self, runner: Any) -> int:
        """Optimiser steps done once the running iteration is over."""
        return (runner.iter + 1) // self.accumulation


class ProgressHook(RunHook):
    """Loss, learning rate and time of each step; TensorBoard shows them by `tensorboard --logdir data/runs`."""

    def __init__(self, run_folder: str, accumulation: int, total: int) -> None:
        super().__init__(run_folder, accumulation)
        self.total = total
        self.losses: list[float] = []

    def before_train(self, runner: Any) -> None:
        with (self.folder / events.FILE).open("a", encoding="utf-8") as file:
            file.write("\n")  # an earlier part of the run may have ended within a line
        step = runner.iter // self.accumulation
        self.tell("started", step=step, total=self.total)
        # a resumed run takes back what lay after its start
        self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1, flush_secs=5)

    def after_train_iter(self, runner: Any, **about: Any) -> None:
        self.losses.append(float(about["outputs"]["loss"]))
        if not math.isfinite(self.losses[-1]):
            self.tell("diverged", step=self.step_of(runner))
            sys.exit(1)
        if (runner.iter + 1) % self.accumulation == 0:
            rate = runner.optim_wrapper.get_lr()["lr"][0]
            loss = sum(self.losses) / len(self.losses)
            self.losses.clear()
            step = self.step_of(runner)
            self.tell("step", step=step, loss=round(loss, 4), rate=rate)
            self.board.add_scalar("loss/training", loss, step)
            self.board.add_scalar("learning_rate", rate, step)


class SampleHook(EvaluateChatHook):
    """XTuner's own evaluation, asked through the model's chat template and answered greedily."""

    def __init__(self, run_folder: str, accumulation: int, **options: Any) -> None:
        super().__init__(**{**options, "evaluation_inputs": settings_of(Path(run_folder))["questions"]})
        self.run = RunHook(run_folder, accumulation)

    def _eval_language(self, _runner: Any, model: Any, device: Any, max_new_tokens: int | None = None, *_: Any) -> None:
        samples = []
        for question in self.evaluation_inputs:
            prompt = torch.tensor([question_tokens(self.tokenizer, question)], device=device)
            output = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=min(self.max_new_tokens, max_new_tokens or self.max_new_tokens),
                do_sample=False,
                pad_token_id=self.gen_config.pad_token_id,
            )
            answer = self.tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)
            # the last character may be cut where the answer is
            samples.append({"question": question, "answer": answer.rstrip("\ufffd")})
        self.run.tell("samples", step=self.step, samples=samples)

    def before_train(self, runner: Any) -> None:
        self.step = runner.iter // self.run.accumulation
        self._generate_samples(runner)

    def after_train_iter(self, runner: Any, **about: Any) -> None:
        self.step = self.run.step_of(runner)
        super().after_train_iter(runner, **about)

    def after_train(self, runner: Any) -> None:
        """The last iteration has been sampled with its checkpoint."""


class ValidationHook(RunHook):
    """Loss on the rows held out, at each checkpoint; with `patience` it ends a run that gets no better."""

    def __init__(
        self, run_folder: str, accumulation: int, tokenizer: dict[str, Any], max_length: int, every: int, patience: int
    ) -> None:
        super().__init__(run_folder, accumulation)
        self.tokenizer, self.max_length, self.every, self.patience = tokenizer, max_length, every, patience
        self.losses: list[float] = []
        self.rows: list[Encoded] = []

    def before_train(self, runner: Any) -> None:
        held_out = settings_of(self.folder).get("validation", [])
        if held_out:
            rows, tokenizer = rows_of(self.folder), BUILDER.build(self.tokenizer)
            first = list({json.dumps(rows[number]): rows[number] for number in held_out}.values())
            self.rows = [
                encoded for row, ended in first for encoded in encode(tokenizer, row, self.max_length, ended=ended)
            ]
            if not runner.iter:
                self.measure(runner, 0)

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        step = self.step_of(runner)
        last = runner.iter + 1 == runner.max_iters
        if self.rows and (runner.iter + 1) % self.accumulation == 0 and (step % self.every == 0 or last):
            self.measure(runner, step)
            best = self.losses.index(min(self.losses))
            if self.patience and len(self.losses) - 1 - best >= self.patience:
                next(hook for hook in runner.hooks if isinstance(hook, StopHook)).stop_early()

    def measure(self, runner: Any, step: int) -> None:
        """Mean over the tokens that are learnt."""
        model, device = runner.model.llm, next(runner.model.parameters()).device
        was_training = model.training
        model.eval()
        spent, tokens = 0.0, 0
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            for row in self.rows:
                labels = torch.tensor([row.labels], device=device)
                learnt = int((labels[:, 1:] != IGNORED).sum())
                if learnt:
                    ids = torch.tensor([row.input_ids], device=device)
                    spent += float(model(input_ids=ids, labels=labels).loss) * learnt
                    tokens += learnt
        model.train(was_training)
        self.losses.append(spent / max(1, tokens))
        self.tell("validation", step=step, loss=round(self.losses[-1], 4))
        progress = next(hook for hook in runner.hooks if isinstance(hook, ProgressHook))
        progress.board.add_scalar("loss/validation", self.losses[-1], step)


class AdapterHook(RunHook):
    """Each checkpoint also as a PEFT adapter, by what `xtuner convert` calls, while the model is at hand."""

    priority = "LOWEST"

    def __init__(self, run_folder: str, accumulation: int, base_name: str) -> None:
        super().__init__(run_folder, accumulation)
        self.base_name = base_name
        self.saved = ""

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        self.export(runner)

    def export(self, runner: Any) -> None:
        """Write the newest checkpoint's adapter, unless it is there."""
        newest = checkpoint_hook(runner).last_ckpt
        if not newest or newest == self.saved:
            return
        self.saved = newest
        step = self.step_of(runner)
        final = self.folder / "checkpoints" / str(step)
        partial = final.with_name(f".{step}.partial")
        for settings in runner.model.llm.peft_config.values():
            settings.base_model_name_or_path = self.base_name
        runner.model.to_hf(cfg=runner.cfg, save_dir=str(partial), fp32=True)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        self.tell("checkpoint", step=step, file=os.fspath(newest))

    def after_train(self, runner: Any) -> None:
        self.tell("finished", step=runner.iter // self.accumulation)


class StopHook(Hook):
    """SIGTERM ends the run after the iteration that is under way, with a checkpoint; XTuner alone just dies."""

    priority = "LOWEST"
    stop = early = False

    def stop_early(self) -> None:
        self.stop = self.early = True

    def before_train(self, runner: Any) -> None:  # noqa: ARG002
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        adapters = next(hook for hook in runner.hooks if isinstance(hook, AdapterHook))
        if self.stop and (runner.iter + 1) % adapters.accumulation == 0:
            checkpoint_hook(runner)._save_checkpoint(runner)
            adapters.export(runner)
            adapters.tell("finished" if self.early else "stopped", step=adapters.step_of(runner), early=self.early)
            sys.exit(0)


def checkpoint_hook(runner: Any) -> CheckpointHook:
    return next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
