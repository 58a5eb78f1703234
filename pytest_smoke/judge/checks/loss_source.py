"""Say in words where a loss that is not finite, or exactly 0, comes from."""

from __future__ import annotations

from pytest_smoke.events import LossDiagnosis


def describe_source(seen: LossDiagnosis) -> str:
    """Return the cause and what to do about it, as a hint; empty if the rerun did not show it."""
    where = _micro_batch(seen)
    at = f" ({seen.place})" if seen.place else ""
    match seen.kind:
        case "parameter":
            when = "before the first update" if not seen.weights_step else f"before step {seen.weights_step}"
            return (
                f"{seen.name} is not finite {when}: look at its initialization, or at the checkpoint it is loaded from"
            )
        case "input":
            return f"{seen.name}{where}: {seen.detail}; clean the data"
        case "labels":
            return f"{seen.detail}{at}{where}: look at labels, masks and truncation"
        case "gradient":
            made = f"the backward pass of {seen.operation}" if seen.operation else f"the gradient of {seen.name}"
            return f"the loss is finite and {made} is not{where}: a square root or a norm has no gradient at 0"
        case "module" | "operation":
            return _operation(seen, where, at)
    if seen.rank is not None:
        return f"only rank {seen.rank} had a loss that is not finite; it was finite when the batch was rerun"
    return ""


def _operation(seen: LossDiagnosis, where: str, at: str) -> str:
    if seen.name:
        made = f"the first value that is not finite is the output of {seen.operation or 'a kernel'} in {seen.name}"
    elif seen.operation:
        made = f"the outputs of the model are finite; the first value that is not finite is that of {seen.operation}"
    else:
        made = (
            f"{f'the term {seen.term}' if seen.term else 'the loss'} is not finite, but no function of torch shows it"
        )
    inputs = f": {seen.detail}" if seen.detail else ""
    precision = {None: "", True: "; finite in fp32: it overflows in 16 bits", False: "; not finite in fp32 either"}
    return f"{made}{at}{where}{inputs}{precision[seen.finite_in_fp32]}"


def _micro_batch(seen: LossDiagnosis) -> str:
    part = f", micro-batch {seen.micro_batch + 1} of {seen.micro_batches}" if seen.micro_batches > 1 else ""
    if seen.rank is not None:
        return f"{part}, of rank {seen.rank} alone"
    return f"{part} of the probe batch" if seen.is_probe and part else " in the probe batch" if seen.is_probe else part
