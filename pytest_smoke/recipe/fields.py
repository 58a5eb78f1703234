"""Building blocks of the recipe's models: their base class and their number types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from pytest_smoke.text import count

Count = Annotated[int, Field(ge=1, le=10**12)]
Steps = Annotated[int, Field(ge=0, le=10**12)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


def criterion_text(written: object) -> object:
    """Return `name: comparison` for the mapping that YAML makes of `- name: comparison`; anything else unchanged."""
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, comparison),) = written.items()
        if isinstance(name, str) and isinstance(comparison, str):
            return f"{name}: {comparison}"
    return written


def _one_criterion(written: object) -> object:
    text = criterion_text(written)
    if isinstance(text, Mapping):
        keys = ", ".join(map(str, text))
        problem = (
            f"is a mapping with {count(len(text), 'key')} ({keys})"
            if len(text) != 1
            else f"has no text after '{keys}:'"
        )
        raise ValueError(f"the entry {problem}; write CRITERION, or NAME: CRITERION")
    return text


CriterionText = Annotated[str, BeforeValidator(_one_criterion, json_schema_input_type=str | dict[str, str])]
"""`comparison`, or `name: comparison`."""


def form_by_kind(kind: type, if_kind: Any, otherwise: Any) -> WrapValidator:
    """Validate a union of two forms by the one that the value's type selects, so that only its errors are reported.

    pydantic's `Discriminator` is also called when a model is dumped, and turns whatever is raised there, such as a
    KeyboardInterrupt, into a warning.
    """
    forms = TypeAdapter(if_kind), TypeAdapter(otherwise)

    def validated(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
        return forms[0 if isinstance(value, kind) else 1].validate_python(value, strict=True)

    return WrapValidator(validated)


class Frozen(BaseModel):
    """Base of all models: immutable, refuses unknown keys, and converts no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return itself, as it cannot change: pydantic copies each default that is a model for each recipe."""
        return self

    @classmethod
    def description(cls, key: str) -> str:
        """Return the docstring of a field on one line."""
        return " ".join((cls.model_fields[key].description or "").split())
