"""What the recipe's models are made of: the base of all of them, and the kinds of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

Count = Annotated[int, Field(ge=1, le=10**12)]
Steps = Annotated[int, Field(ge=0, le=10**12)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


def criterion_text(written: object) -> object:
    """`{name: comparison}`, as YAML reads `- name: comparison`, as one text again; all else as it is."""
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, comparison),) = written.items()
        if isinstance(name, str) and isinstance(comparison, str):
            return f"{name}: {comparison}"
    return written


def _one_criterion(written: object) -> object:
    text = criterion_text(written)
    if isinstance(text, Mapping):
        keys = ", ".join(map(str, text))
        what = f"is a mapping of {len(text)} keys ({keys})" if len(text) != 1 else f"has no text after {keys}:"
        raise ValueError(f"an entry is CRITERION, or NAME: CRITERION; this one {what}")
    return text


CriterionText = Annotated[str, BeforeValidator(_one_criterion, json_schema_input_type=str | dict[str, str])]
"""`comparison`, or `name: comparison`."""


def form_by_kind(kind: type, if_kind: Any, otherwise: Any) -> WrapValidator:
    """Of a union's two forms only the one that the value's kind points at is tried, and so only its faults are told.

    Not pydantic's `Discriminator`: that is asked when a model is dumped, too, and what is raised there, a Ctrl-C that
    happens to arrive, becomes a warning.
    """
    forms = TypeAdapter(if_kind), TypeAdapter(otherwise)

    def validated(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
        return forms[0 if isinstance(value, kind) else 1].validate_python(value, strict=True)

    return WrapValidator(validated)


class Frozen(BaseModel):
    """Unknown keys are refused, nothing is coerced; the docstring under a field is its description in the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
