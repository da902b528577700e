"""Values that a user sets, checked: one error names all that are not possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real

Rule = tuple[str, Callable[[object], bool]]  # what a value must be, and whether it is that


def is_number(value, least: float = 0.0, most: float = math.inf) -> bool:
    """A finite number from `least` to `most`?"""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and least <= value <= most


def whole(least: int) -> Rule:
    """A whole number from `least` on."""
    text = f"a whole number from {least} on"
    return text, lambda v: isinstance(v, Integral) and not isinstance(v, bool) and v >= least


WHOLE = whole(1)
NOT_NEGATIVE = ("a number from 0 on", is_number)
SHARE = ("a number from 0 to 1", lambda v: is_number(v, 0, 1))


def optional(rule: Rule) -> Rule:
    """None is possible, too."""
    return f"None or {rule[0]}", lambda v: v is None or rule[1](v)


TRAINING = {
    **dict.fromkeys(("steps", "batch", "coarse_batch", "eval_every", "trunk", "accumulate"), WHOLE),
    **dict.fromkeys(("lr", "coarse_weight", "weight_decay", "colour"), NOT_NEGATIVE),
    "lr_encoder": optional(NOT_NEGATIVE),
    "warmup": SHARE,
    "val_fraction": ("a number between 0 and 1", lambda v: is_number(v, 0, 1) and 0 < v < 1),
    "dropout": SHARE,
    "crop": ("a number above 0, at most 1", lambda v: is_number(v, 0, 1) and v > 0),
    "mixed_precision": ("'no' or 'bf16'", lambda v: v in ("no", "bf16")),
    "workers": optional(whole(0)),
}


def check_values(settings, rules: dict[str, Rule]) -> None:
    """rules: of each attribute. Raises ValueError naming all attributes that break theirs."""
    values = {name: getattr(settings, name) for name in rules}
    wrong = [f"{k} must be {rules[k][0]}, got {v!r:.60}" for k, v in values.items() if not rules[k][1](v)]
    if wrong:
        raise ValueError(f"{type(settings).__name__}: {'; '.join(wrong)}")
