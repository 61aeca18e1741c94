"""Validation of constructor parameters, in scikit-learn's wording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter has a value or a type that it cannot have."""


class Constraint(Protocol):
    """Something a value can satisfy; its ``str`` completes the sentence "must be ..."."""

    def accepts(self, value: Any) -> bool:
        """Whether the value satisfies the constraint."""
        ...


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds.

    Attributes
    ----------
    kind : type
        `numbers.Real` or `numbers.Integral`.
    low, high : float
        Bounds.
    closed : {"both", "left", "right", "neither"}
        Which bounds belong to the interval.
    """

    kind: type
    low: float
    high: float = math.inf
    closed: str = "left"

    def accepts(self, value: Any) -> bool:
        """Whether the value is a number of the kind inside the interval."""
        if isinstance(value, bool | np.bool_) or not isinstance(value, self.kind):
            return False
        number = float(value)  # type: ignore[arg-type]  # a Real or an Integral
        above = number >= self.low if self.closed in ("left", "both") else number > self.low
        below = number <= self.high if self.closed in ("right", "both") else number < self.high
        return above and below

    def __str__(self) -> str:
        name = "an int" if self.kind is Integral else "a float"
        left = "[" if self.closed in ("left", "both") else "("
        right = "]" if self.closed in ("right", "both") else ")"
        return f"{name} in the range {left}{self.low}, {self.high}{right}"


@dataclass(frozen=True)
class Options:
    """One of several strings (or None)."""

    values: tuple[str | None, ...]

    def accepts(self, value: Any) -> bool:
        """Whether the value is one of the options."""
        return (value is None or isinstance(value, str)) and value in self.values

    def __str__(self) -> str:
        listed = ", ".join(repr(value) for value in self.values if value is not None)
        text = f"a str among {{{listed}}}"
        return f"{text} or None" if None in self.values else text


@dataclass(frozen=True)
class Kind:
    """An instance of one of several types, described in words."""

    types: tuple[type, ...]
    description: str

    def accepts(self, value: Any) -> bool:
        """Whether the value is an instance."""
        return isinstance(value, self.types)

    def __str__(self) -> str:
        return self.description


@dataclass(frozen=True)
class Either:
    """One of several constraints, which scikit-learn has for one."""

    constraints: tuple[Constraint, ...]

    def accepts(self, value: Any) -> bool:
        """Whether the value satisfies one of them."""
        return any(constraint.accepts(value) for constraint in self.constraints)

    def __str__(self) -> str:
        return _listed(self.constraints)


NONE = Kind((type(None),), "None")
_BOOLEANS = (
    Kind((bool,), "an instance of 'bool'"),
    Kind((np.bool_,), "an instance of 'numpy.bool'"),
)
POSITIVE = Interval(Real, 0.0, closed="neither")
NON_NEGATIVE = Interval(Real, 0.0)
COUNT = Interval(Integral, 1)
#: Flags, as scikit-learn takes them.
BOOLEAN = Either(_BOOLEANS)
#: Verbosity.
VERBOSE = Either((Interval(Integral, 0), *_BOOLEANS))
#: Seeds.
RANDOM_STATE = Either(
    (
        Interval(Integral, 0, 2**32 - 1, "both"),
        Kind((np.random.RandomState,), "an instance of 'numpy.random.mtrand.RandomState'"),
        NONE,
    )
)


def check_parameters(
    name: str, values: Mapping[str, Any], constraints: Mapping[str, tuple[Constraint, ...]]
) -> None:
    """Check every constructor parameter of an estimator.

    Parameters
    ----------
    name : str
        Class name of the estimator, for the message.
    values : mapping of str to object
        Parameters.
    constraints : mapping of str to tuple of Constraint
        What each of them may be; one of the tuple has to hold.

    Raises
    ------
    InvalidParameterError
        A ValueError and a TypeError that names the parameter and what it may be.
    """
    for parameter, allowed in constraints.items():
        value = values[parameter]
        if any(constraint.accepts(value) for constraint in allowed):
            continue
        raise InvalidParameterError(
            f"The {parameter!r} parameter of {name} must be {_listed(allowed)}. Got {value!r} "
            "instead."
        )


def _listed(constraints: Sequence[Constraint]) -> str:
    said = [str(constraint) for constraint in constraints]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


def start_array(
    name: str, given: Any, shape: tuple[int, ...], known: np.ndarray | None
) -> np.ndarray:
    """Return where a fit is to start: what is given, what is known, or zero.

    Raises
    ------
    ValueError
        If what is given has another shape, or numbers that are not finite.
    """
    if given is None:
        return np.zeros(shape) if known is None else known
    start = np.array(given, dtype=np.float64)
    if shape[0] == 1 and start.size == np.prod(shape):
        start = start.reshape(shape)
    if start.shape != shape or not np.all(np.isfinite(start)):
        raise ValueError(
            f"{name} has to hold finite numbers in the shape {shape}, got an array of shape "
            f"{start.shape}."
        )
    return start
