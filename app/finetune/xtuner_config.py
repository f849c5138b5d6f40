"""Write a run's XTuner configuration. Nothing a visitor typed reaches it but checked numbers."""

from pathlib import Path
from string import Template
from typing import Any

from app.finetune.options import TrainOptions
from app.finetune.own_answers import LONGEST

WARMUP_SHARE = 0.1

_TEXT = Template('''"""XTuner 0.2.0 configuration of this run. It may be edited before the run is resumed."""
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import $wrapper
from peft import LoraConfig
from torch.optim import AdamW
from xtuner.dataset import process_hf_dataset
from xtuner.dataset.collate_fns import default_collate_fn
from xtuner.engine.runner import TrainLoop

from app.finetune.own_answers import OwnAnswers
from app.finetune.xtuner_plugin import (
    AdapterHook,
    ChatFinetune,
    ProgressHook,
    SampleHook,
    StopHook,
    ValidationHook,
    WarmupCosine,
    chat_dataset,
    load_base,
    load_tokenizer,
)

base_folder = $base_folder
base_name = $base_name
run_folder = $run_folder

# Lengths in tokens; a step is one optimiser update of batch_size * accumulation rows.
max_length = $max_length
batch_size = $batch
accumulation = $accumulation
steps = $steps
warmup = $warmup
learning_rate = $learning_rate
save_every = $save_every
evaluate_every = $evaluate_every
patience = $patience  # checkpoints without a lower validation loss; 0: the run goes to its end
own_answer_tokens = $own_answer_tokens  # longest answer of the base itself to a general question

tokenizer = dict(type=load_tokenizer, folder=base_folder, name=base_name)
model = dict(
    type=ChatFinetune,
    own_answers=dict(type=OwnAnswers, tokenizer=tokenizer, run_folder=run_folder, max_new_tokens=own_answer_tokens),
    use_activation_checkpointing=$cuda,
    llm=dict(type=load_base, folder=base_folder, name=base_name, quantise=$quantise),
    lora=dict(
        type=LoraConfig, r=$rank, lora_alpha=$alpha, lora_dropout=$dropout, bias="none", task_type="CAUSAL_LM"
    ),
)
train_dataset = dict(
    type=process_hf_dataset,
    dataset=dict(type=chat_dataset, folder=base_folder, name=base_name, run_folder=run_folder, max_length=max_length),
    do_dataset_tokenization=False,  # chat_dataset has done it, with the tokenizer's own chat template
    tokenizer=tokenizer,
    max_length=max_length,
    pack_to_max_length=False,
    map_num_proc=None,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    dataset=train_dataset,
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=default_collate_fn),
)
optim_wrapper = dict(
    type=$wrapper$precision,
    optimizer=dict(type=AdamW, lr=learning_rate, weight_decay=0),
    clip_grad=dict(max_norm=1),
    accumulative_counts=accumulation,
)
param_scheduler = [dict(type=WarmupCosine, warmup=warmup, total=steps * accumulation, by_epoch=False)]
train_cfg = dict(type=TrainLoop, max_iters=steps * accumulation)
custom_hooks = [
    dict(type=ProgressHook, run_folder=run_folder, accumulation=accumulation, total=steps),
    dict(
        type=SampleHook,
        tokenizer=tokenizer,
        run_folder=run_folder,
        accumulation=accumulation,
        every_n_iters=evaluate_every * accumulation,
        evaluation_inputs=[],  # read from the run's settings
        max_new_tokens=48,
    ),
    dict(
        type=ValidationHook,
        run_folder=run_folder,
        accumulation=accumulation,
        tokenizer=tokenizer,
        max_length=max_length,
        every=save_every,
        patience=patience,
    ),
    dict(type=AdapterHook, run_folder=run_folder, accumulation=accumulation, base_name=base_name),
    dict(type=StopHook),
]
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, log_metric_by_epoch=False, interval=10),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=save_every * accumulation, max_keep_ckpts=-1),
    sampler_seed=dict(type=DistSamplerSeedHook),
)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="$backend"))
visualizer = None
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=$seed, deterministic=False)
log_processor = dict(by_epoch=False)
''')


def write_config(
    options: TrainOptions, *, steps: int, base_name: str, base_folder: Path, run_folder: Path, cuda: bool
) -> str:
    """The configuration's text; `steps` is the total, those of earlier parts of the run included."""
    values = {key: literal(value) for key, value in options.as_dict().items()} | {
        "steps": literal(steps),
        "own_answer_tokens": literal(LONGEST),
        "warmup": literal(max(2, round(WARMUP_SHARE * steps)) * options.accumulation),
        "base_name": literal(base_name),
        "base_folder": literal(str(base_folder)),
        "run_folder": literal(str(run_folder)),
        "cuda": literal(cuda),
        # "4bit" is nf4 with double quantisation, as in the course
        "quantise": literal("4bit") if options.method == "qlora" else "None",
        # mixed precision wants an accelerator
        "wrapper": "AmpOptimWrapper" if cuda else "OptimWrapper",
        "precision": ', dtype="bfloat16"' if cuda else "",
        "backend": "nccl" if cuda else "gloo",
    }
    return _TEXT.substitute(values)


def literal(value: Any) -> str:
    """A Python literal; braces are spelt out, because mmengine puts environment variables in place of {{$...}}."""
    assert isinstance(value, str | int | float | bool)
    return ascii(value).replace("{", r"\x7b").replace("}", r"\x7d")
