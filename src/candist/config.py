"""The base of all settings, and how `section.key=value` overrides reach them.

The settings themselves stand beside the code they steer; `pipeline.Settings` gathers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from candist.errors import SettingsError, did_you_mean, first_problem, shorten

S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """Validate ``values`` as settings of ``kind``.

    Raises
    ------
    SettingsError
        For the first unknown key or value out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(*first_problem(error.errors(), known_keys(kind))) from None


def override(settings: S, assignments: Sequence[str]) -> S:
    """Return ``settings`` with ``section.key=value`` assignments applied.

    Raises
    ------
    SettingsError
        When an assignment has no ``=``, names an unknown key, or gives a value out of range.
    """
    values = settings.model_dump()
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"setting {assignment!r} has no '='", "section.key=value", "for instance seed=1")
        *sections, key = path.strip().split(".")
        place = values
        for section in sections:
            if not isinstance(place.get(section), dict):
                raise SettingsError(f"unknown setting {path!r}", "", did_you_mean(path, all_paths(type(settings))))
            place = place[section]
        if key not in place or isinstance(place[key], dict):
            raise SettingsError(f"unknown setting {path!r}", "", did_you_mean(path, all_paths(type(settings))))
        place[key] = value.strip()
    return build(type(settings), values)


def known_keys(kind: type[BaseModel], prefix: str = "") -> dict[str, list[str]]:
    """Map each dotted prefix to the keys allowed there."""
    known = {prefix: list(kind.model_fields)}
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            known |= known_keys(field.annotation, f"{prefix}.{name}".lstrip("."))
    return known


def all_paths(kind: type[BaseModel]) -> list[str]:
    """All settable dotted paths, in order."""
    return [path for path, _, _ in describe(kind)]


def describe(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted path, default as text, description) for each setting."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}.{name}".lstrip(".")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from describe(field.annotation, path)
        else:
            yield path, shorten(field.get_default(call_default_factory=True)), field.description or ""
