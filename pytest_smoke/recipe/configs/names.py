"""What other trainers call the keys of a recipe, for those who write such a name into one."""

from __future__ import annotations

HERE: dict[str, tuple[str, ...]] = {
    "full.batch_size": (
        "per_device_train_batch_size",
        "per_gpu_train_batch_size",
        "micro_batch_size",
        "local_batch_size",
        "train_micro_batch_size_per_gpu",
        "device_batch_size",
        "per_device_batch_size",
        "batch_size_per_device",
        "device_train_microbatch_size",
    ),
    "full.grad_accum_steps": (
        "gradient_accumulation_steps",
        "accumulate_grad_batches",
        "grad_accumulation_steps",
        "gradient_accumulation",
        "accumulation_steps",
        "accum_steps",
        "grad_accum",
    ),
    "full.world_size": ("num_processes", "nproc_per_node", "devices", "num_gpus", "n_gpus", "num_devices", "n_gpu"),
    "full.learning_rate": ("lr", "max_lr", "peak_lr", "base_lr"),
    "full.lr_schedule": ("lr_scheduler_type", "lr_scheduler", "lr_decay_style", "scheduler", "schedule", "decay_type"),
    "full.warmup_steps": ("num_warmup_steps", "warmup_iters", "lr_warmup_iters", "lr_warmup_steps", "warmup"),
    "full.max_steps": ("max_train_steps", "max_iters", "train_iters", "num_training_steps", "total_steps", "num_steps"),
    "full.precision": ("mixed_precision", "mixed_precision_param", "dtype", "torch_dtype", "amp"),
    "full.grad_clip_norm": (
        "max_grad_norm",
        "gradient_clip_val",
        "max_norm",
        "clip_grad",
        "grad_clip",
        "gradient_clipping",
        "clip_grad_norm",
        "grad_norm_clip",
    ),
    "full.loss_weights": ("loss_weight", "loss_coefficients"),
    "smoke.seed": ("seed_everything", "random_seed"),
    "smoke.evaluate_every_steps": ("eval_steps", "eval_every", "eval_interval"),
}
"""Names that Hugging Face, Lightning, torchtitan, axolotl, Megatron and nanoGPT use, by the recipe key they equal."""

OTHERWISE: dict[str, str] = {
    "warmup_ratio": "write warmup_steps = warmup_ratio x max_steps",
    "warmup_pct": "write warmup_steps = warmup_pct x max_steps",
    "warmup_epochs": "write warmup_steps = warmup_epochs x optimizer steps in one epoch",
    "num_train_epochs": "write max_steps = num_train_epochs x samples / effective batch",
    "num_epochs": "write max_steps = num_epochs x samples / effective batch",
    "max_epochs": "write max_steps = max_epochs x samples / effective batch",
    "epochs": "write max_steps = epochs x samples / effective batch",
    "steps": "write max_steps",
    "train_samples": "write max_steps = train_samples / effective batch",
    "lr_warmup_samples": "write warmup_steps = lr_warmup_samples / effective batch",
    "global_batch_size": "write batch_size, grad_accum_steps and world_size, whose product is global_batch_size",
    "train_batch_size": "write batch_size, grad_accum_steps and world_size, whose product is the effective batch",
    "total_batch_size": "write batch_size, grad_accum_steps and world_size, whose product is total_batch_size",
    "effective_batch_size": "write batch_size, grad_accum_steps and world_size, whose product is the effective batch",
    "bf16": "write precision: bf16",
    "fp16": "write precision: fp16",
    "fp32": "write precision: fp32",
    "tf32": "it is a setting of torch; set torch.backends.cuda.matmul.allow_tf32 in the task",
    "decay_ratio": "write lr_schedule: wsd, or whichever shape the schedule has",
    "gradient_clip_algorithm": "grad_clip_norm clips by norm; clipping by value is not supported",
    "num_nodes": "write world_size = num_nodes x devices of each node",
    "weight_decay": "the task's optimizer sets it; write it in args if the task takes it",
    "optimizer": "the task's `optimizer` method makes it; write its arguments in args",
    "optim": "the task's `optimizer` method makes it; write its arguments in args",
    "adam_beta1": "the task's optimizer sets it; write it in args if the task takes it",
    "adam_beta2": "the task's optimizer sets it; write it in args if the task takes it",
    "adam_epsilon": "the task's optimizer sets it; write it in args if the task takes it",
    "betas": "the task's optimizer sets them; write them in args if the task takes them",
    "seq_len": "the task sets it; write it in args if the task takes it",
    "sequence_len": "the task sets it; write it in args if the task takes it",
    "max_seq_length": "the task sets it; write it in args if the task takes it",
}
"""What to write instead of a name whose unit or whose place is another one here."""

OF_STAGES = ("learning_rate", "warmup_steps", "loss_weights")
"""Settings of the full run that a stage may have of its own."""

_BY_NAME = {name: key for key, names in HERE.items() for name in names}


def equivalent(key: str, section: str) -> str | None:
    """Return what to write in a recipe instead of another trainer's `key`; None if no such trainer has this name.

    `section` is the dotted section that the key was found in. Case and `-` against `_` do not matter.
    """
    name = key.lower().replace("-", "_").rpartition(".")[2]
    here = _BY_NAME.get(name)
    if here is None:
        return OTHERWISE.get(name)
    home, _, own = here.partition(".")
    settings = ("full", "smoke", "stages") if own in OF_STAGES else ("full", "smoke")
    is_here = section == home or (home == "full" and section.partition("[")[0] in settings)
    return f"{key} is {own} here" + ("" if is_here else f", under {home}")
