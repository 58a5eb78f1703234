"""Every message of the checks once, with real values, to be read as one text.

The sentences about a curve are in `tests/judge/curve/test_messages.py`, those of the metric advisories in
`tests/judge/metrics/test_messages.py`, those of criteria in `tests/criteria/test_messages.py`, and those of the
training process in `tests/monitor/test_child.py`.
"""

# ruff: noqa: E501  # each message on one line, as it is in an outcome

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_smoke.judge.checks.registry import CHECKS
from pytest_smoke.outcome import Finding
from pytest_smoke.text import STATUS_WORDS
from tests.judge.checks.findings import findings
from tests.judge.registered import registered_reason

VOICE = """\
pass  batch-geometry
    effective batch 128 (16 x 8 x 1), the same as the full run's (16 x 8 x 1)
FAIL  batch-geometry (different-effective-batch)
    the smoke run has effective batch 8 (8 x 1 x 1), the full run 128 (16 x 8 x 1). The smoke run's gradient noise is 4.0x larger, so it says nothing about the full run
    hint: change `smoke` so that batch_size x grad_accum_steps x world_size is 128, or remove these keys to inherit them
pass  schedule
    constant mode: 1,000 warmup steps, peak learning rate 0.0005, 1,700 of 2,500 steps at 80 % of the peak or more
FAIL  schedule (warmup-too-long)
    the warmup of 1,000 steps does not end within the 800 steps of the schedule
    hint: give the smoke run more steps than the full run's warmup has
FAIL  schedule (masked)
    lr_schedule is 'cosine', constant mode requires 'constant'. At step 2250 the learning rate is 31 % of its peak, and no step after 1590 is at 80 % or more: a divergence would not show
    hint: remove lr_schedule from `smoke`, or rerun with --smoke-mode constant, which overrides it
FAIL  schedule (different-learning-rate)
    learning_rate is 0.0001 in the smoke run and 0.0005 in the full run; 0 of 2,500 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 1,250
    hint: remove learning_rate from `smoke`
FAIL  schedule (different-warmup)
    warmup_steps is 100 in the smoke run and 1,000 in the full run
    hint: remove warmup_steps from `smoke`
FAIL  schedule (too-little-evidence)
    799 of 1,599 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 800
    hint: set smoke.max_steps to 1600 or more
FAIL  schedule (too-little-evidence)
    1,086 of 4,000 steps are at 80 % of the full run's peak learning rate or more; long-tail mode needs 2,500
    hint: set smoke.max_steps to 10000 or more, and smoke.run_steps, if it is set, to 3000 or more
warn  schedule (short-horizon)
    long-tail mode: 1,000 warmup steps, peak learning rate 0.0005, 2,562 of 9,000 steps at 80 % of the peak or more. The schedule has 9,000 steps, fewer than 10,000, so its cosine decays within the run
    hint: set smoke.max_steps to 10000 or more
warn  schedule (not-shorter)
    constant mode: 1,000 warmup steps, peak learning rate 0.0005, 1,700 of 2,500 steps at 80 % of the peak or more. The full run has only 2,500 steps, so the smoke run saves nothing
FAIL  schedule (different-warmup)
    stage A: warmup_steps is 500 in the smoke run and 20 in the full run; stage B: warmup_steps is 500 in the smoke run and 20 in the full run; 200 of 600 steps are at 80 % of the full run's peak learning rate or more; constant mode needs 300
    hint: remove warmup_steps from `smoke`
pass  settings
    all other settings are those of the full run
FAIL  settings (different-setting)
    precision is 'bf16' in the smoke run and 'fp32' in the full run; grad_clip_norm is off in the smoke run and 1.0 in the full run
    hint: remove precision and grad_clip_norm from `smoke`, or change the full run
FAIL  settings (differs-from-trainer)
    full.batch_size is 16 in the recipe and 8 in the trainer that the factory returns
    hint: let the factory return the trainer of the full run, or remove full.batch_size, which is read from it
pass  settings
    all other settings are those of the full run
warn  settings (not-passed-on)
    the command does not get grad_accum_steps, learning_rate, lr_schedule, warmup_steps, max_steps and grad_clip_norm: their values hold only if they are what the command uses anyway
    hint: pass them on with placeholders: {grad_accum_steps}, {learning_rate}, {lr_schedule}, {warmup_steps}, {max_steps}, {grad_clip_norm}
pass  mix
    estimated mix: nad 35.0 %, osm 33.0 %, gn 32.0 %
FAIL  mix (corpus-unreadable)
    the corpus cannot be counted: corpus/absent: file or folder not found
FAIL  mix (share-off-target)
    source 'nad' is 35.0 % of the estimated mix (700,000 rows x weight 0.5), not the intended 20.0 %; all shares: nad 35.0 %, gn 35.0 %, osm 30.0 %
    hint: change the weights in mix.sources
FAIL  mix (dominant-source)
    source 'nad' is 45.0 % of the estimated mix; the limit is 40.0 %; all shares: nad 45.0 %, osm 35.0 %, gn 20.0 %
    hint: change the weights in mix.sources; if the mix is intended, increase mix.dominant_share or mix.lead_ratio
FAIL  mix (leading-source)
    source 'nad' has 1.7x the share of the next source, 'osm'; the limit is 1.5x; all shares: nad 38.0 %, osm 22.0 %, gn 20.0 %, fr 20.0 %
    hint: change the weights in mix.sources; if the mix is intended, increase mix.dominant_share or mix.lead_ratio
warn  mix (stale-row-count)
    source 'gn' has 32 rows, the recipe states 40; estimated mix: nad 35.0 %, osm 33.0 %, gn 32.0 %
    hint: set mix.sources.gn.rows to 32
FAIL  mix (unknown-source)
    source 'gn' has 32 rows, but is not in the mix (nad, osm)
    hint: add the source to mix.sources, with weight 0 if it must not be sampled
FAIL  mix (source-without-rows)
    source 'wiki' has no rows, but weight 1 in the mix
    hint: remove the source from mix.sources, or set its weight to 0
pass  baseline
    checks.baseline 'old': val_f1 0.41
FAIL  baseline (missing-metric)
    checks.baseline 'old' has no val_f1; it has: val_acc
    hint: compare with a metric that the baseline has, or record val_f1 in a new baseline run
FAIL  baseline (missing-baseline)
    checks.baseline 'old' cannot be read: No such file or directory
    hint: set checks.baseline to the report folder (or the verdicts.json) of an earlier smoke run, and checks.baseline_id to one of its outcomes
pass  sources
    recipe and code are unchanged since they were read
FAIL  sources (edited-during-run)
    recipes/base.smoke.yaml was edited before the smoke run started, so a verdict may not apply to the current files
    hint: run it again, and do not edit its files before it ends
FAIL  sources (edited-during-run)
    tagger_task.py and data/corpus were edited during the smoke run, so a verdict may not apply to the current files
    hint: run it again, and do not edit its files before it ends
pass  resumed
    interrupted, and resumed at steps 120 and 300
warn  resumed (restarted)
    restarted from step 0: the checkpoint was saved by torch 2.9
pass  metric-names
    the run records every metric that the criteria name
FAIL  metric-names (missing-metric)
    the criteria name val_f1, which evaluate(model) does not return; did you mean val_f?
    hint: evaluate(model) must return every metric at each call, with NaN for what is not known yet
FAIL  metric-names (missing-metric)
    the criteria name val_f1, which the task has no evaluate(model) to return; known: ce, loss, grad_norm, lr, probe_loss
    hint: evaluate(model) must return every metric at each call, with NaN for what is not known yet
pass  mix-drawn
    sampled in the first 94 steps (12,000 samples): nad 35.0 %, osm 33.3 %, gn 31.7 %
FAIL  mix-drawn (sampled-share-off)
    source 'nad' is 51.7 % of the first 12,000 samples, not the expected 35.0 %: more than the tolerance of 2.0 %, and more than chance explains (1.8 %). 2 other sources differ, too; all shares: nad 51.7 %, osm 25.0 %, gn 23.3 %
    hint: check the sampler's weights, and how batches() uses `rank` and `seed`
FAIL  mix-drawn (source-never-sampled)
    source 'gn' is missing from the first 11,800 samples; expected 32.0 %. 2 other sources differ, too; all shares: nad 50.8 %, osm 49.2 %, gn 0.0 %
    hint: check the sampler's weights, and how batches() uses `rank` and `seed`
warn  mix-drawn (source-never-sampled)
    source 'gn' is missing from the first 9,800 samples; expected 1.0 %; the first 9,800 samples are too few for a tolerance of 2.0 %: a share that is off by 2.1 % could go unnoticed
    hint: run more steps, so that more samples are counted, or increase mix.tolerance
FAIL  mix-drawn (unknown-source)
    source 'wiki' is 23.1 % of the first 13,000 samples, but is not in the mix. 3 other sources differ, too; all shares: nad 26.9 %, osm 25.4 %, gn 24.6 %, wiki 23.1 %
    hint: check the sampler's weights, and how batches() uses `rank` and `seed`
warn  mix-drawn (unknown-source)
    source 'wiki' is 0.4 % of the first 10,040 samples, but is not in the mix; the first 10,040 samples are too few for a tolerance of 2.0 %: a share that is off by 2.01 % could go unnoticed
    hint: run more steps, so that more samples are counted, or increase mix.tolerance
warn  mix-drawn (dominant-source)
    source 'nad' is 75.0 % of the first 12,000 samples; the limit is 40.0 %; source 'nad' has 3.0x the share of the next source, 'osm'; the limit is 1.5x
warn  mix-drawn (leading-source)
    source 'nad' has 1.8x the share of the next source, 'osm'; the limit is 1.5x; the first 10,200 samples are too few for a tolerance of 2.0 %: a share that is off by 2.04 % could go unnoticed
    hint: run more steps, so that more samples are counted, or increase mix.tolerance
warn  mix-drawn (too-few-samples)
    the first 100 samples are too few for a tolerance of 2.0 %: a share that is off by 20 % could go unnoticed
    hint: run more steps, so that more samples are counted, or increase mix.tolerance
pass  ranks
    in step 0 the 2 data-parallel ranks drew different samples
FAIL  ranks (same-samples)
    data-parallel ranks 0 and 1 draw the same samples: in step 0 they share 8 of 8 samples. The effective batch has fewer different samples than declared
    hint: use `rank` and `world_size` in batches(): every world_size-th sample from number rank on, or a generator seeded with seed and rank
warn  ranks[unused] (unused-parameters)
    process 1 made a step without a gradient of extra.weight. DistributedDataParallel(model) raises in the next step; the smoke run does not, because it sets find_unused_parameters=True
    hint: set find_unused_parameters=True in the full run, or let the losses use all parameters in every process, and freeze or remove those that nothing uses
warn  ranks[unused] (unused-parameters)
    process 0 made a step without a gradient of head.weight, head.bias; process 1 made a step without a gradient of head.weight, head.bias, norm.weight and 9 more. DistributedDataParallel(model) raises in the next step; the smoke run does not, because it sets find_unused_parameters=True
    hint: set find_unused_parameters=True in the full run, or let the losses use all parameters in every process, and freeze or remove those that nothing uses
warn  ranks[unused] (unused-parameters)
    processes 0 and 1 made a step without a gradient of head.weight, head.bias, norm.weight. DistributedDataParallel(model) raises in the next step; the smoke run does not, because it sets find_unused_parameters=True
    hint: set find_unused_parameters=True in the full run, or let the losses use all parameters in every process, and freeze or remove those that nothing uses
warn  ranks[parallelize] (not-sharded)
    parallelize(model, mesh) sharded none of the model's 12 parameters, so the smoke run trained with DistributedDataParallel. It says nothing about memory and communication with FSDP2
    hint: if the full run shards the model, let parallelize call fully_shard on its modules; else remove parallelize from the task
pass  data-repeats
    the batches of steps 0-7 do not repeat
FAIL  data-repeats (repeated-in-step)
    the 2 micro-batches of a step are all the same samples, in each of steps 0-7. The effective batch has fewer different samples than declared
    hint: look for a generator that is seeded again for each batch, and for data loader workers that share a seed or that each read the whole data set
FAIL  data-repeats (repeated-in-step)
    only 2 of the 6 micro-batches of a step are different, in each of steps 0-7. The effective batch has fewer different samples than declared
    hint: look for a generator that is seeded again for each batch, and for data loader workers that share a seed or that each read the whole data set
warn  data-repeats (same-batch)
    every step of steps 0-7 has the same 8 samples
    hint: look for a generator that is seeded again for each batch, and for data loader workers that share a seed or that each read the whole data set. If all data fit into one step on purpose, set smoke.steps_per_epoch: 1
warn  data-repeats (repeated-batches)
    4 of 8 micro-batches in steps 0-7 were drawn before, while new ones still come: 50 % of the data is repeated
    hint: look for a generator that is seeded again for each batch, and for data loader workers that share a seed or that each read the whole data set
pass  data-repeats
    every step of steps 0-7 has the same samples, as smoke.steps_per_epoch: 1 says
pass  memory
    the largest batch fits into memory: forward and backward pass ran within 3.2 GiB
FAIL  memory (out-of-memory)
    the largest batch does not fit into memory: OutOfMemoryError: CUDA out of memory at lm.py:31
    hint: halve batch_size and double grad_accum_steps in `full`, limit the length of a sample, or recompute activations in the backward pass
FAIL  memory (exception)
    the task failed on the largest batch: IndexError: index 512 is out of range at lm.py:31
    hint: fix the exception, or limit the size of samples: a later step would have failed in the same way
pass  overfit
    the loss of one repeated batch fell from 2.303 to 0.41 in 40 updates
warn  overfit (loss-does-not-fall)
    the loss of one repeated batch did not fall in 40 updates: 2.303 before, 2.304 after
    hint: look for a detached loss, parameters that the optimizer does not hold, labels that do not belong to their inputs, and a learning_rate (0.0005) that is too high or too low
warn  overfit (not-overfitted)
    one batch could not be trained on repeatedly: RuntimeError: no second pass at lm.py:31
pass  overfit
    the loss of one repeated batch fell from 2.303 to 0.41 in 40 updates
FAIL  overfit (loss-does-not-fall)
    the loss of one repeated batch did not fall in 40 updates: 2.303 before, 2.304 after
    hint: look for a detached loss, parameters that the optimizer does not hold, labels that do not belong to their inputs, and a learning_rate (0.0005) that is too high or too low
FAIL  overfit (not-overfitted)
    one batch could not be trained on repeatedly: RuntimeError: no second pass at lm.py:31
pass  model-mode
    3 modules with dropout, batch norm or code of their own for training were in training mode
FAIL  model-mode (eval-mode)
    the model trains in evaluation mode at step 1: dropout and batch norm do not train
    hint: call model.train() after model.eval() in losses(); a part that must not train needs frozen parameters
warn  model-mode (partly-eval)
    stage B: 2 of 3 modules with dropout or batch norm train in evaluation mode at step 1: encoder.drop and encoder.norm
    hint: call model.train() after model.eval() in losses(); a part that must not train needs frozen parameters
warn  shared-storage (shared-storage)
    emb.weight and head.weight share memory, but are different parameters: every step updates it twice, and on another device or in a checkpoint they are separate
    hint: tie the parameters instead of their `.data`: `head.weight = embedding.weight`
pass  supervised-tokens
    15 % of the items in the first step have a label
warn  supervised-tokens (few-labels)
    hardly any item has a label: 0.4 % in the first step
    hint: look at the masking of prompts and padding, at truncation, and at the ignored label (-100)
warn  supervised-tokens (samples-without-label)
    samples without any label: 60 of 100 in the first step. They train nothing
    hint: a prompt longer than the maximum length leaves no room for its answer: truncate the prompt instead
pass  accumulation
    splitting the batch keeps the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs by 1e-05 % of its norm
FAIL  accumulation (gradient-depends-on-split)
    splitting the batch changes the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs by 23 % of its norm; kl is 0.5 instead of 0.6
    hint: if a loss term is a mean over items whose number varies, such as tokens, return their number from counts(batch). A term that is a sum, or that compares the samples of a micro-batch, needs the full run's batch_size (64)
FAIL  accumulation (gradient-depends-on-split)
    splitting the batch changes the loss: with micro-batches of 16 (smoke run) and 64 (full run), kl is 0.5 instead of 1.5. The gradient differs by 0.2 % of its norm
    hint: if a loss term is a mean over items whose number varies, such as tokens, return their number from counts(batch). A term that is a sum, or that compares the samples of a micro-batch, needs the full run's batch_size (64)
FAIL  accumulation (batch-size-ignored)
    batches(16) yields as many samples as batches(64): the effective batch is not the declared one
    hint: let batches() yield as many samples as it is asked for
warn  accumulation[A] (not-compared)
    stage A, phase latent: micro-batches of 16 (smoke run) and 64 (full run) could not be compared: batch is of type int, which cannot be split
    hint: let batches() yield tensors or arrays, or dicts, lists, tuples or dataclasses of them
warn  accumulation (close-to-limit)
    splitting the batch slightly changes the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs by 0.02 % of its norm, more than rounding explains
    hint: if a loss term is a mean over items whose number varies, such as tokens, return their number from counts(batch). A term that is a sum, or that compares the samples of a micro-batch, needs the full run's batch_size (64)
warn  accumulation (batch-norm)
    splitting the batch keeps the gradient: with micro-batches of 16 (smoke run) and 64 (full run) it differs by 1e-05 % of its norm. But 2 batch-norm layers compute statistics over 16 samples, not over 64
pass  accumulation
    splitting the batch keeps the gradient: 8 samples whole and split into 4 and 4
warn  accumulation (uneven-micro-batches)
    ce is a mean over items whose number varies, but accumulation gives all micro-batches the same weight: 4 of 8 samples hold 58 % of the items of ce. The full run has the same error
    hint: return the number of items that each term is a mean over, such as tokens without padding, from counts
warn  accumulation (uneven-micro-batches)
    ce and kl are means over items whose number varies, but accumulation gives all micro-batches the same weight: 4 of 8 samples hold 58 % of the items of ce and 10 % of the items of kl. The full run has the same error
    hint: return the number of items that each term is a mean over, such as tokens without padding, from counts; what it returns now differs
pass  accumulation
    a loss term sums over a micro-batch or compares its samples, and both runs have the same micro-batches: split into 4 and 4, the gradient of 8 samples differs by 50 %
warn  accumulation (summed-micro-batches)
    the gradients of accumulated micro-batches are added up instead of averaged: two halves of a batch have twice the gradient of the whole. The full run has the same error
    hint: divide the loss of a micro-batch by the number of micro-batches of a step, or by `num_items_in_batch` if compute_loss is given it
FAIL  accumulation (gradients-added-up)
    the gradients of accumulated micro-batches are added up instead of averaged: two halves of a batch have twice the gradient of the whole. The full run's 4 ranks average theirs, so its gradient is another one
    hint: divide the loss of a micro-batch by the number of micro-batches of a step, or by `num_items_in_batch` if compute_loss is given it
pass  accumulation (not-split)
    both runs have the same micro-batches, which were not split: batch is of type int, which cannot be split
pass  items-drawn
    each of the first 8 steps drew 1,024 items of ce and 300 to 450 items of kl
pass  items-drawn
    the first step drew 1,024 items of ce and 300 to 450 items of kl
FAIL  items-drawn (other-items-per-sample)
    a sample of batches(16) has 16 items of ce and 8 items of kl, one of the full run's batches(64) has 4 items of ce and 4 items of kl: their effective batches are not the same
    hint: give the smoke run the full run's batch_size, or make the length of a sample independent of it
warn  items-drawn (counts-change)
    counts(batch) returned 512 and then 1024 for the same micro-batch
    hint: compute the number of items from the batch alone: it weights the micro-batches of a step
warn  items-drawn (empty-micro-batches)
    counts(batch) is 0 for 1 of 32 micro-batches in the first 8 steps: they train nothing
    hint: look at masks and truncation; the effective batch is smaller than the recipe says
FAIL  batch-drawn (fewer-samples)
    a step draws 16 samples instead of 64 (16 x 4 x 1): batches(16) yields 4
    hint: let batches() yield as many samples as it is asked for, on each rank and at each accumulation step
FAIL  batch-drawn (fewer-samples)
    a step draws 16 samples instead of 64 (16 x 4 x 1): a micro-batch has 4
    hint: look for a data loader, a training step or a loss of its own that uses another batch size than the arguments say
FAIL  batch-drawn (fewer-samples)
    from step 50 on a step draws 16 samples instead of 64 (16 x 4 x 1): batches(16) yields 4
    hint: let batches() yield as many samples as it is asked for, on each rank and at each accumulation step
FAIL  batch-drawn (fewer-samples)
    from step 50 on a step draws 16 samples instead of 64 (16 x 4 x 1): a micro-batch has 4
    hint: look for a data loader, a training step or a loss of its own that uses another batch size than the arguments say
FAIL  batch-drawn (more-samples)
    a step draws 128 samples instead of 64 (16 x 4 x 1): batches(16) yields 32
    hint: let batches() yield as many samples as it is asked for; if a sample has several rows, return the number of samples from sources(batch)
FAIL  batch-drawn (more-samples)
    a step draws 128 samples instead of 64 (16 x 4 x 1): a micro-batch has 32
    hint: look for a data loader, a training step or a loss of its own that uses another batch size than the arguments say
pass  batch-drawn
    each of 800 steps drew 64 samples
pass  batch-drawn
    each of 800 steps drew 64 samples
warn  batch-drawn (uneven-batches)
    12 of 800 steps did not have 64 samples: batches(16) sometimes yields 9
    hint: drop the last batch of an epoch if it is short (`drop_last=True` of a DataLoader)
warn  batch-drawn (uneven-batches)
    12 of 800 steps did not have 64 samples: a micro-batch sometimes has 9
    hint: drop the last batch of an epoch if it is short (`drop_last=True` of a DataLoader)
pass  batch-drawn
    the samples in a batch cannot be counted: it is flat, as packed samples are
pass  batch-drawn
    the samples in a batch cannot be counted: it is flat, as packed samples are
FAIL  batch-drawn (fewer-samples)
    a step draws 32 samples instead of 64 (16 x 4 x 1): its micro-batches have 16, but there are not 4 of them
    hint: look for a data loader, a training step or a loss of its own that uses another batch size than the arguments say
warn  batch-drawn (uneven-batches)
    12 of 800 steps did not have 64 samples: they had fewer micro-batches
    hint: make the batches of an epoch a multiple of the micro-batches of a step
pass  lr-applied
    the optimizer used the scheduled learning rate in all 800 steps
FAIL  lr-applied (other-learning-rate)
    the optimizer used the learning rate 0 at step 50, the recipe schedules 0.003
    hint: remove the task's own learning-rate scheduler: the smoke run applies full.lr_schedule and full.warmup_steps itself
FAIL  lr-applied (other-learning-rate)
    optimizer.step changed the learning rate from 0.003, which the recipe schedules, to 0.0015 at step 50
    hint: remove the schedule from the optimizer and its step hooks: the smoke run applies the recipe's schedule
FAIL  lr-applied (parameter-groups-changed)
    the optimizer has 2 parameter groups at step 50, it was made with 1: the recipe's schedule does not apply to the groups that changed
    hint: make all parameter groups in optimizer(model, learning_rate), or train new parameters in a stage
FAIL  lr-applied (other-learning-rate)
    the optimizer used the learning rate 0.00299999 at step 50, the recipe schedules 0.003
    hint: look for a scheduler of the trainer's own, and for code that sets `lr` in the parameter groups: the smoke run sets the schedule through the trainer's arguments
pass  finite
    loss terms, gradient norms and parameters were finite in all 800 steps
FAIL  finite (non-finite)
    loss is NaN at step 419
    hint: on the last good checkpoint (step 418) the weighted gradient norms are ce 0.5, crf 7; the gradient of crf is 14x that of ce: crf dominates. Reduce its weight, or drop one of the two terms. Otherwise reduce learning_rate (0.0005)
FAIL  finite (non-finite)
    the norm of the parameters is NaN after step 799
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: no update was made yet: look at the loss terms, the labels and the inputs
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: only rank 1 had a loss that is not finite; it was finite when the batch was rerun
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the outputs of the model are finite; the first value that is not finite is that of log (task.py:31), micro-batch 3 of 4, of rank 1 alone
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: head.weight is not finite before the first update: look at its initialization, or at the checkpoint it is loaded from
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: batch['x'], micro-batch 3 of 4: 3 values of 4,096 are NaN; clean the data
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: all 192 labels are -100, which the loss ignores (task.py:31), micro-batch 3 of 4: look at labels, masks and truncation
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the first value that is not finite is the output of linear in head (Linear), micro-batch 3 of 4; finite in fp32: it overflows in 16 bits
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the outputs of the model are finite; the first value that is not finite is that of log (task.py:31)
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the outputs of the model are finite; the first value that is not finite is that of softmax, micro-batch 3 of 4 of the probe batch: its inputs hold infinite values
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the term ce is not finite, but no function of torch shows it, micro-batch 3 of 4
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the loss is finite and the backward pass of sqrt is not, micro-batch 3 of 4: a square root or a norm has no gradient at 0
FAIL  finite (non-finite)
    ce is NaN at step 0
    hint: the loss is finite and the gradient of head.weight is not, micro-batch 3 of 4: a square root or a norm has no gradient at 0
FAIL  finite (non-finite)
    loss is NaN at step 419
    hint: the first value that is not finite is the output of exp in head (Linear), micro-batch 3 of 4. Otherwise reduce learning_rate (0.0005)
pass  loss-trend
    no rise in 800 points: loss fell from 4.17 to 1.98
FAIL  loss-trend (rise)
    loss rose from its lowest level, 1.2 (steps 300-319), to 1.9 (steps 400-419): +0.7 (+58 %), 9.1 standard deviations of the noise
    hint: reduce learning_rate (0.0005), or undo the last change to the recipe
FAIL  loss-trend (rise)
    loss rose from its lowest level, 1.2 (steps 300-319), to 1.9 (steps 400-419): +0.7 (+58 %), 9.1 standard deviations of the noise
    hint: on the last good checkpoint (step 418) the weighted gradient norms are ce 0.5, crf 7; the gradient of crf is 14x that of ce: crf dominates. Reduce its weight, or drop one of the two terms. Otherwise reduce learning_rate (0.0005)
FAIL  loss-trend (rise)
    loss rose from its lowest level, 1.2 (steps 300-319), to 1.9 (steps 400-419): +0.7 (+58 %), 9.1 standard deviations of the noise
    hint: reduce learning_rate (0.0005), or undo the last change to the recipe; on the last good checkpoint (step 418) the weighted gradient norms are ce 0.5, crf 0.7; no term dominates
FAIL  loss-trend[B] (rise)
    stage B, phase latent: loss rose from its lowest level, 1.2 (steps 300-319), to 1.9 (steps 400-419): +0.7 (+58 %), 9.1 standard deviations of the noise
    hint: reduce the learning_rate (0.0005) of stage B, or undo the last change to the recipe
FAIL  loss-trend (spike)
    loss spiked from 1.2 to at least 2.4
    hint: reduce learning_rate (0.0005), or undo the last change to the recipe
FAIL  loss-trend (divergence)
    loss diverged from 4.2 to 9.1
    hint: reduce learning_rate (0.0005), or undo the last change to the recipe
FAIL  loss-trend (swings)
    loss rose more than 30-fold 3 times
    hint: reduce learning_rate (0.0005), or undo the last change to the recipe
FAIL  loss-trend (constant)
    loss is exactly 2.303 at the last 300 points: nothing is trained
    hint: check that labels reach the loss, that gradients are on, and that the optimizer has the model's parameters
FAIL  loss-trend (learning-rate-zero)
    the learning rate is 0 at all 800 points
not checked  loss-trend (warming-up)
    the learning rate was still rising at the end (0.0005)
FAIL  loss-trend (masked)
    only 20 steps ran at 80 % or more of the peak learning rate
not checked  loss-trend (too-short)
    30 points, at least 120 needed to tell a rise from noise
    hint: set smoke.max_steps to 120 or more
not checked  loss-trend (too-noisy)
    the noise of 800 points could hide a lasting rise of 0.4
warn  loss-trend (no-progress)
    loss did not improve on its initial level 1.4: any decrease is within its noise
    hint: try a lower learning_rate (0.0005), and check labels and loss: a model that learns nothing also has a stable loss
not checked  loss-trend (no-progress)
    loss did not improve on its initial level 1.4: any decrease is within its noise
    hint: try a lower learning_rate (0.0005), and check labels and loss: a model that learns nothing also has a stable loss
not checked  loss-trend (wiring)
    10 steps ran. A wiring run is too short for a verdict on the loss
not checked  loss-trend (preflight)
    all preflight checks passed; --smoke-preflight does not train
not checked  loss-trend (ended-early)
    ended at step 419, after 420 of 800 planned points: an incomplete run cannot be promoted
pass  learning
    there were gradients and parameters changed in every part of the 40 steps
FAIL  learning (not-in-optimizer)
    the optimizer holds none of the model's 4 trainable parameters: it was made for another model, or for a copy of this one
    hint: make the optimizer from the parameters of the model that optimizer(model, learning_rate) is given
FAIL  learning (parameter-replaced)
    2 parameters were replaced or added in steps 0-19, and the optimizer does not hold the new ones: head.weight and head.bias
    hint: change the values of a parameter in place (`copy_`), or replace it before the optimizer is made
FAIL  learning (zero-gradient)
    the gradient is exactly 0 from step 20 to the end (step 39): the loss has no gradient with respect to any parameter
    hint: look for `detach()` and `torch.no_grad()` in the loss or in the model, and for a loss times 0
FAIL  learning (zero-gradient)
    the gradient is exactly 0 in all 40 steps: the task disabled gradients and did not enable them again
    hint: undo `torch.set_grad_enabled(False)` in the task, or use `with torch.no_grad()`
FAIL  learning (zero-loss)
    the loss and its gradient are exactly 0 in all 40 steps: nothing trains
    hint: check labels and masks: a mean over no item, or labels that are all ignored, give a loss of 0
FAIL  learning (zero-loss)
    the loss is exactly 0 from step 20 to the end (step 39), so it shows nothing about training
    hint: check labels and masks, and return a loss whose value is not 0 by construction
FAIL  learning (parameters-still)
    no parameter changed in all 40 steps, although there was a gradient: optimizer.step ran 40 times and changed nothing
    hint: look for code that replaces or skips optimizer.step, or restores earlier weights
FAIL  learning (parameters-still)
    no parameter changed in all 40 steps, although there was a gradient: optimizer.step did not run
    hint: look for code that replaces or skips optimizer.step, or restores earlier weights
FAIL  learning (constant-loss)
    the loss is exactly 1.234 in all 40 steps: it shows nothing about training
    hint: check that each batch has other samples, and that the loss is not clamped
FAIL  learning (constant-probe-loss)
    the loss on the probe batch is exactly 1.234 at all 40 scores, although the parameters changed: in evaluation mode it does not depend on them
    hint: check that adapters and heads are used in evaluation mode, too, and the labels of the probe batch
warn  learning (constant-loss)
    the loss is exactly 1.234 from step 20 to the end (step 39): it shows nothing about training
    hint: check that each batch has other samples, and that the loss is not clamped
not checked  learning (ended-early)
    not checked: the run did not reach its end
pass  updates
    all 4 trainable parameters changed
FAIL  updates (parameters-not-updated)
    7 of 20 trainable parameters did not change: layer0.weight, layer1.weight, layer2.weight, layer3.weight, layer4.weight and 2 more (3 not in the optimizer, 2 without a gradient)
    hint: set requires_grad=False on parameters that are frozen on purpose; pass the others to the optimizer and use them in a loss term
FAIL  updates (frozen-parameter-changed)
    1 frozen parameter changed: head.bias
    hint: the stage's `train` globs freeze these parameters; look for code that writes to them directly
FAIL  updates (parameters-stopped)
    2 of 4 trainable parameters stopped changing by step 42: 0.weight and 0.bias
    hint: look for code that detaches or freezes a part of the model during training; freeze before the first step what is not meant to train
warn  updates (parameters-stopped)
    2 of 9 trainable parameters stopped changing by step 42: 0.weight and 0.bias
    hint: look for code that detaches or freezes a part of the model during training; freeze before the first step what is not meant to train
warn  updates (lost-in-rounding)
    1 of 9 trainable parameters did not change, because their updates are smaller than the spacing of their values: norm.weight
    hint: keep the weights in fp32 (`full.precision` sets autocast), or use a higher learning rate
not checked  updates (ended-early)
    not checked: the run did not reach its end
pass  grad-ratio
    the raw gradient norms crf/ce have a median ratio of 4.5 (4 to 5 in 2 probes), within the bounds [0.01, 8]
FAIL  grad-ratio (ratio-out-of-bounds)
    the raw gradient norms crf/ce have a median ratio of 10.5 (9 to 12 in 2 probes), outside the bounds [0.01, 8]
    hint: the gradient of crf is 10.5x that of ce: crf dominates. Reduce its weight, or drop one of the two terms
FAIL  grad-ratio (ratio-out-of-bounds)
    the raw gradient norms crf/ce have a median ratio of 0.001 (0.001 to 0.001 in 1 probe), outside the bounds [0.01, 8]
    hint: the gradient of crf is 0.001x that of ce: crf has almost no effect on training. Increase its weight, or remove it
FAIL  grad-ratio (unknown-term)
    checks.grad_ratio names crv, but the task's loss terms are ce and crf
    hint: did you mean crf?
not checked  grad-ratio (no-gradient-probe)
    the only gradient probe was not finite
pass  grad-ratio
    largest median ratio of weighted gradient norms: ce/crf 1 (no bounds declared)
warn  grad-ratio (dominant-term)
    largest median ratio of weighted gradient norms: crf/ce 50 (no bounds declared)
    hint: the gradient of crf is 50x that of ce: crf dominates. Reduce its weight, or drop one of the two terms. Declare checks.grad_ratio to make this fail
warn  grad-ratio (dominant-term)
    largest median ratio of weighted gradient norms: ce/align 300 (no bounds declared); of 3 terms ce has the largest gradient (71 % of the sum), negligible: align; most conflicting: ce/kl (median cosine -0.62)
    hint: the gradient of ce is 300x that of align: ce dominates. Reduce its weight, or drop one of the two terms. Declare checks.grad_ratio to make this fail
pass  stage[A]
    stage A met its criterion: val_f1 was 0.71 at step 799, the recipe requires > 0.6
pass  stage[B]
    stage B met its criterion (steps counted from step 800): last(ce) was 1.2 at step 599, the recipe requires < 2
FAIL  stage[A] (stage-criteria-failed)
    stage A failed its criterion: val_f1 was 0.41 at step 799, the recipe requires > 0.6. Stage B did not start
FAIL  stage[A] (stage-criteria-failed)
    stage A failed its criterion: val_f1 was 0.41 at step 799, the recipe requires > 0.6. Stage B ran nevertheless (continue_on_fail)
not checked  stage[B] (earlier-stage-failed)
    not checked: stage A failed its criteria, so the run ended there
FAIL  accept[val_f1 > 0.6] (criterion-failed)
    val_f1 was 0.41 at step 799, the recipe requires > 0.6
not checked  accept[val_f1 > 0.6] (ended-early)
    not checked: the run did not reach its end
pass  pipeline[evaluate]
    val_f1 0.8, val_nll 1.2
pass  pipeline[export]
    ONNX, 4.5 kB: outputs within 4e-07 of the model's (at most 0.0001) on the example inputs and inputs of batch size 3; dynamic dimensions: ids[0]
pass  pipeline[quantize]
    int8, 1.2 kB (25 % of fp32), 2 weights quantized. Outputs change by 0.01; val_f1 0.8 -> 0.795 (-0.005)
pass  pipeline[package]
    2 files, 43.7 kB: model.onnx and labels.json
pass  pipeline[load]
    a fresh process loads model.onnx; its outputs are within 1e-07 of the packaged ones
FAIL  pipeline[quantize] (quantization-cost)
    val_f1 dropped from 0.8 to 0.7 with int8 weights: by 0.1, and smoke.pipeline.max_drop allows 0.01
FAIL  pipeline[quantize] (missing-metric)
    smoke.pipeline.max_drop names val_f1, but evaluate() returned f1
FAIL  pipeline[export] (exception)
    export failed: GuardOnDataDependentSymNode: could not guard on data-dependent expression at task.py:31
    hint: an exported graph has one path: choose by values with torch.where or torch.cond, not with Python's if
not checked  pipeline[load] (earlier-step-failed)
    not run: it needs export, which failed
pass  resume
    resumed at step 301 in a fresh process, 2 steps match the uninterrupted run bit for bit
FAIL  resume (state-not-restored)
    resumed at step 301 in a fresh process, the run differs from the uninterrupted one from step 302 on: loss is 0.91 instead of 0.9. After loading, buffer ema.weight differs
    hint: register it with persistent=True, or save it in state_dict
FAIL  resume (different-data)
    resumed at step 301 in a fresh process, the run differs from the uninterrupted one from step 301 on: loss is 0.97 instead of 1. The batch of step 301 differs
    hint: let batches() depend on its seed alone, not on a global generator or on earlier samples; or return an iterator with state_dict and load_state_dict
FAIL  resume (unknown-cause)
    resumed at step 301 in a fresh process, the run differs from the uninterrupted one from step 301 on: loss is 0.97 instead of 1. Weights, optimizer and batches are the same
    hint: look for a random generator or a counter of the task that starts again in a fresh process
FAIL  resume (resumed-run-ended-early)
    the resumed run made 0 of 24 steps
FAIL  resume (resumed-run-failed)
    the resumed run failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied
FAIL  resume (checkpoint-not-saved)
    the state before step 301 could not be saved: No space left on device
not checked  resume (ended-early)
    not checked: the run did not reach its end
pass  prediction-errors
    2 examples: 2 of 2 gold spans missed (100 %: bio_slip 50 %, num_confused 50 %); 2 of 2 predicted spans wrong (100 %: bio_slip 50 %, num_confused 50 %)
warn  prediction-errors (unreadable-predictions)
    predictions(model): line 3: 'gold' is missing
    hint: predictions(model) must yield rows {'raw': text, 'gold': spans, 'pred': spans}, as `python -m pytest_smoke diagnose` reads them
"""

SHOWN_ELSEWHERE = {
    **dict.fromkeys(("peak-regression", "above-chance", "time-to-target", "exposure-bias"), "judge/metrics"),
    **dict.fromkeys(("metrics", "full-accept"), "judge/metrics"),
    "accept": "criteria",
    "run": "monitor",
    "pipeline": "train/export",
}
"""Checks whose messages are shown by the tests of another room."""
NOT_MADE = ("ended-early", "earlier-stage-failed")
"""Reasons that have the same sentence in every check."""


def voice(made: Iterable[Finding], tmp_path: Path) -> str:
    """Return status, id and reason of each finding, its sentence and its hint."""
    lines = []
    for finding in made:
        reason = f" ({finding.reason})" if finding.reason else ""
        lines += [f"{STATUS_WORDS[finding.status]}  {finding.id}{reason}", f"    {finding.text}"]
        lines += [f"    hint: {finding.hint}"] if finding.hint else []
    return "".join(f"{line}\n" for line in lines).replace(str(tmp_path), "corpus")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Finding], Path]:
    """All findings, and the folder with the corpus that some of them name."""
    folder = tmp_path_factory.mktemp("corpus")
    return list(findings(folder)), folder


def test_every_message_reads_as_written_here(made: tuple[list[Finding], Path]) -> None:
    assert voice(*made) == VOICE


def test_no_row_of_the_registry_is_without_a_message(made: tuple[list[Finding], Path]) -> None:
    """Either here, or in the tests of another room."""
    shown = {id(reason) for finding in made[0] if (reason := registered_reason(finding))}
    missing = [
        f"{check.id}: {reason.id} ({reason.status})"
        for check in CHECKS
        for reason in check.reasons
        if id(reason) not in shown and check.id not in SHOWN_ELSEWHERE and reason.id not in NOT_MADE
    ]
    assert missing == []


def test_a_message_is_at_most_two_sentences_and_names_no_reason_code(made: tuple[list[Finding], Path]) -> None:
    for finding in made[0]:
        assert finding.text.count(". ") <= 1, finding.text
        assert not finding.text.endswith("."), finding.text
        codes = {reason.id for check in CHECKS for reason in check.reasons if "-" in reason.id} - {"batch-norm"}
        assert not [code for code in codes if code in finding.text.split()], finding.text
