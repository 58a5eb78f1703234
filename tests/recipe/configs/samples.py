"""Configs as the users of each trainer write them; the settings in all of them are the same."""

from __future__ import annotations

TRAINING_ARGUMENTS = """\
11/26/2025 10:12:03 - INFO - __main__ - Training/evaluation parameters TrainingArguments(
_n_gpu=1,
accelerator_config={'split_batches': False, 'dispatch_batches': None, 'even_batches': True},
adafactor=False,
adam_beta1=0.9,
adam_beta2=0.95,
adam_epsilon=1e-08,
auto_find_batch_size=False,
bf16=True,
bf16_full_eval=False,
data_seed=None,
dataloader_num_workers=4,
ddp_backend=None,
debug=[],
deepspeed=None,
eval_steps=None,
fp16=False,
fp16_full_eval=False,
fsdp=[],
gradient_accumulation_steps=8,
hub_token=<HUB_TOKEN>,
label_smoothing_factor=0.0,
learning_rate=0.0003,
local_rank=0,
logging_dir=runs/Nov26_10-12-03_node-7,
logging_steps=10,
lr_scheduler_kwargs={},
lr_scheduler_type=SchedulerType.COSINE,
max_grad_norm=1.0,
max_steps=50000,
num_train_epochs=3.0,
optim=OptimizerNames.ADAMW_TORCH_FUSED,
output_dir=/data/runs/full run 3,
per_device_eval_batch_size=32,
per_device_train_batch_size=16,
push_to_hub_token=<PUSH_TO_HUB_TOKEN>,
report_to=['wandb'],
save_steps=500,
seed=42,
warmup_ratio=0.0,
warmup_steps=1000,
weight_decay=0.1,
)
"""
HUGGING_FACE_YAML = """\
# zephyr-style SFT run
model_name_or_path: mistralai/Mistral-7B-v0.1
torch_dtype: bfloat16
dataset_mixer:
  HuggingFaceH4/ultrachat_200k: 0.75
  teknium/OpenHermes-2.5: 0.25
bf16: yes
per_device_train_batch_size: 16
gradient_accumulation_steps: 8
learning_rate: 3e-4
lr_scheduler_type: cosine
max_grad_norm: 1.0
max_steps: 50000
warmup_ratio: 0.02
weight_decay: 0.1
optim: adamw_torch
seed: 42
logging_steps: 5
output_dir: data/zephyr
"""
HUGGING_FACE_JSON = """\
{
\t"model_args": {"model_name_or_path": "gpt2"},
\t"training_args": {
\t\t"per_device_train_batch_size": 16,
\t\t"gradient_accumulation_steps": 8,
\t\t"learning_rate": 3e-4,
\t\t"lr_scheduler_type": "cosine",
\t\t"max_steps": 50000, "warmup_steps": 1000,
\t\t"bf16": true, "fp16": false,
\t\t"max_grad_norm": 1.0, "weight_decay": 0.1, "optim": "adamw_torch", "seed": 42
\t}
}
"""
PYTHON_CALL = """\
from transformers import Trainer, TrainingArguments


def main(args):
    training_args = TrainingArguments(
        output_dir=args.output_dir,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=8,
        learning_rate=3e-4,
        lr_scheduler_type="cosine",
        warmup_steps=1000,
        max_steps=50_000,
        bf16=True,
        max_grad_norm=1.0,
        weight_decay=0.1,
        optim="adamw_torch",
        seed=42,
    )
    Trainer(args=training_args).train()
"""
PYTHON_DICT = """\
training_args = {
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 8,
    "learning_rate": 0.0003,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 1000,
    "max_steps": 50000,
    "bf16": True,
    "max_grad_norm": 1.0,
    "weight_decay": 0.1,
    "optim": "adamw_torch",
    "seed": 42,
}
"""
LLAMA_FACTORY = """\
### model
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_config.json

### dataset
dataset: identity,alpaca_en_demo
template: qwen
cutoff_len: 2048
mix_strategy: interleave_under
interleave_probs: 0.25,0.75

### output
output_dir: saves/qwen2_5-7b/full/sft
logging_steps: 10
plot_loss: true

### train
per_device_train_batch_size: 16
gradient_accumulation_steps: 8
learning_rate: 3.0e-4
max_steps: 50000
lr_scheduler_type: cosine
warmup_ratio: 0.02
max_grad_norm: 1.0
weight_decay: 0.1
optim: adamw_torch
bf16: true
seed: 42
ddp_timeout: 180000000
"""
AXOLOTL = """\
base_model: NousResearch/Meta-Llama-3.1-8B

datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
val_set_size: 0.0
output_dir: ./outputs/out

sequence_len: 8192
sample_packing: true

wandb_project:

gradient_accumulation_steps: 8
micro_batch_size: 16
max_steps: 50000
optimizer: adamw_torch_fused
lr_scheduler: cosine
learning_rate: 3e-4
max_grad_norm: 1.0

bf16: true
fp16:
tf32: false
flash_attention: true
seed: 42

warmup_steps: 1000
saves_per_epoch: 1
weight_decay: 0.1
special_tokens:
  pad_token: <|end_of_text|>
"""
TORCHTITAN = """\
[job]
dump_folder = "./outputs"
description = "Llama 3 8B training"

[metrics]
log_freq = 10

[model]
name = "llama3"
flavor = "8B"

[optimizer]
name = "AdamW"
lr = 3e-4
eps = 1e-8
weight_decay = 0.1

[lr_scheduler]
warmup_steps = 1000  # lr scheduler warm up
decay_type = "cosine"

[training]
local_batch_size = 16
global_batch_size = 1024
seq_len = 8192
max_norm = 1.0  # grad norm clipping
steps = 50000
dataset = "c4"
mixed_precision_param = "bfloat16"
seed = 42

[parallelism]
data_parallel_replicate_degree = 1
data_parallel_shard_degree = 8
tensor_parallel_degree = 1
"""
LIGHTNING = """\
# lightning.pytorch==2.5.1
seed_everything: 42
trainer:
  accelerator: gpu
  strategy: ddp
  devices: 4
  num_nodes: 2
  precision: bf16-mixed
  max_epochs: null
  max_steps: 50000
  accumulate_grad_batches: 8
  gradient_clip_val: 1.0
  gradient_clip_algorithm: null
  callbacks:
  - class_path: lightning.pytorch.callbacks.LearningRateMonitor
    init_args:
      logging_interval: step
model:
  class_path: my_project.models.GPT
  init_args:
    hidden_size: 512
    warmup_steps: 1000
optimizer:
  class_path: torch.optim.AdamW
  init_args:
    lr: 3e-4
    weight_decay: 0.1
lr_scheduler:
  class_path: torch.optim.lr_scheduler.CosineAnnealingLR
  init_args:
    T_max: 50000
data:
  class_path: my_project.data.Text
  init_args:
    batch_size: 16
    num_workers: 8
ckpt_path: null
"""
HYDRA = """\
# @package _global_
data:
  _target_: src.data.TextDataModule
  batch_size: 16
  sources:
    web: {weight: 3.0}
    code: {weight: 1.0}
model:
  _target_: src.models.GPT
  dim: 512
optim:
  _target_: torch.optim.AdamW
  lr: 3e-4
  weight_decay: 0.1
scheduler:
  _target_: src.optim.cosine_with_warmup
  warmup_steps: 1000
train:
  max_steps: 50000
  grad_accum_steps: 8
  world_size: 8
  precision: bf16
  grad_clip: 1.0
  seed: 42
val:
  batch_size: 64
"""
PLAIN = """\
train:
  batch_size: 16
  gradient_accumulation_steps: 8
  num_gpus: 8
  lr: 0.0003
  lr_scheduler: cosine
  warmup_steps: 1000
  max_steps: 50000
  precision: bf16
  max_grad_norm: 1.0
  weight_decay: 0.1
  optimizer: adamw
  seed: 42
eval:
  batch_size: 64
"""
NANOGPT = """\
# config for training GPT-2 (124M)
wandb_log = True
batch_size = 16
gradient_accumulation_steps = 8
learning_rate = 3e-4
decay_lr = True
warmup_iters = 1000
max_iters = 50000
grad_clip = 1.0
weight_decay = 1e-1
dtype = 'bfloat16'
seed = 42
"""
MEGATRON = """\
train_iters: 50000
micro_batch_size: 16
global_batch_size: 1024
data_parallel_size: 8
lr: 3.0e-4
min_lr: 3.0e-5
lr_decay_style: cosine
lr_warmup_iters: 1000
clip_grad: 1.0
weight_decay: 0.1
optimizer: adam
bf16: true
seed: 42
"""
DEEPSPEED = """\
{
  "train_micro_batch_size_per_gpu": 16,
  "gradient_accumulation_steps": 8,
  "gradient_clipping": 1.0,
  "bf16": {"enabled": true},
  "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "betas": [0.9, 0.95], "weight_decay": 0.1}},
  "scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": 1000, "total_num_steps": 50000}},
  "seed": 42
}
"""
NAMESPACE = (
    "Namespace(batch_size=16, gradient_accumulation_steps=8, lr=0.0003, scheduler='cosine', warmup_steps=1000, "
    "max_steps=50000, dtype='bfloat16', clip_grad=1.0, weight_decay=0.1, seed=42, eval_every=100)\n"
)
NEMO = """\
trainer:
  devices: 8
  num_nodes: 1
  precision: bf16
  max_steps: 50000
  accumulate_grad_batches: 1
  gradient_clip_val: 1.0
model:
  micro_batch_size: 16
  global_batch_size: 1024
  seed: 42
  optim:
    name: fused_adam
    lr: 3e-4
    weight_decay: 0.1
    sched:
      name: CosineAnnealing
      warmup_steps: 1000
"""
TORCHTUNE = """\
model:
  _component_: torchtune.models.llama3_1.llama3_1_8b
seed: 42
optimizer:
  _component_: torch.optim.AdamW
  lr: 3e-4
  weight_decay: 0.1
lr_scheduler:
  _component_: torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup
  num_warmup_steps: 1000
batch_size: 16
gradient_accumulation_steps: 8
max_steps: 50000
clip_grad_norm: 1.0
dtype: bf16
"""
COMPOSER = """\
model: {name: mpt_causal_lm, d_model: 768}
scheduler: {name: cosine_with_warmup, t_warmup: 1000ba, alpha_f: 0.1}
optimizer: {name: decoupled_adamw, lr: 3.0e-4, weight_decay: 0.1}
algorithms: {gradient_clipping: {clipping_type: norm, clipping_threshold: 1.0}}
max_duration: 50000ba
eval_interval: 500ba
global_train_batch_size: 1024
device_train_microbatch_size: 16
num_gpus: 8
seed: 42
precision: amp_bf16
"""
WANDB = """\
wandb_version: 1
_wandb: {desc: null, value: {python_version: 3.11.7}}
batch_size: {desc: null, value: 16}
grad_accum_steps: {desc: null, value: 8}
learning_rate:
  desc: null
  value: 0.0003
optim: {desc: null, value: {weight_decay: 0.1}}
lr_schedule: {desc: null, value: cosine}
warmup_steps: {desc: null, value: 1000}
max_steps: {desc: null, value: 50000}
precision: {desc: null, value: bf16}
max_grad_norm: {desc: null, value: 1.0}
seed: {desc: null, value: 42}
"""
NO_TRAINER = """\
{"per_device_train_batch_size": 16, "gradient_accumulation_steps": 8, "learning_rate": 3e-4, "weight_decay": 0.1,
 "num_warmup_steps": 1000, "max_train_steps": 50000, "lr_scheduler_type": "cosine", "mixed_precision": "bf16",
 "max_grad_norm": 1.0, "seed": 42}
"""
