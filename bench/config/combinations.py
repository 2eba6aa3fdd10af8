"""Every combination that a sweep asks for: of an experiment's parameters, of the arms that it lists, and of what was
typed.

An experiment's `hydra.sweeper.params` are a product. Where arms differ in more than that, as in learning rates of their
own, `hydra.sweeper.arms` lists them, each with the overrides that make it; the parameters then hold for all of them.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from bench.config import AXES
from bench.config.overrides import loosen, typed_key
from bench.errors import UsageError

Combination = tuple[str, ...]  # Hydra's overrides


def combine(
    parser: OverridesParser, params: Sequence[Override], arms: Any, typed: Sequence[Override]
) -> list[Combination]:
    """The combinations, those of an arm together.

    What is typed on an axis that the arms set chooses among them; else it takes the place of theirs.

    Args:
        parser: Hydra's.
        params: of `hydra.sweeper.params`.
        arms: `hydra.sweeper.arms`.
        typed: on the command line.

    Raises:
        UsageError: `arms` is no list of mappings, or no arm has what was typed on an axis.
    """
    if not arms:
        return _combine([*params, *typed])
    chooses = [each for each in typed if each.key_or_group in AXES and any(each.key_or_group in arm for arm in arms)]
    others = [each for each in typed if each not in chooses]
    listed = [dict(_by_key(each)) for arm in arms for each in _combine(_parse(parser, arm))]
    for override in chooses:
        listed = list(_choose(listed, override))
    found = []
    for arm in listed:
        found += _combine([*params, *parser.parse_overrides([*arm.values()]), *others])
    return found


def _parse(parser: OverridesParser, arm: Any) -> list[Override]:
    if not isinstance(arm, Mapping):
        raise UsageError(
            f"hydra.sweeper.arms holds {arm}, which is no arm.\nIt is a list of such: - {{regularizer: sam, seed: 0}}"
        )
    return parser.parse_overrides([loosen(f"{key}={value}") for key, value in arm.items()])


def _by_key(combination: Combination) -> Iterator[tuple[str, str]]:
    for override in combination:
        yield typed_key(override), override


def _choose(arms: Sequence[Mapping[str, str]], override: Override) -> Iterator[dict[str, str]]:
    """The arms that have one of an override's values on its axis."""
    axis = override.key_or_group
    for value in _values(override):
        chosen = [dict(arm) for arm in arms if _names(arm.get(axis, "").partition("=")[2]) == _names(value)]
        if not chosen:
            known = dict.fromkeys(arm.get(axis, "").partition("=")[2] for arm in arms)
            there = ", ".join(filter(None, known))
            raise UsageError(f"no arm of the experiment has {axis}={value}.\nThey have: {there}")
        yield from chosen


def _names(value: str) -> frozenset[str]:
    """What a value on an axis chooses: the order of a stack has no meaning."""
    return frozenset(re.findall(r"[\w.-]+", value))


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [*override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _combine(overrides: Iterable[Override]) -> list[Combination]:
    """Every combination of what is swept; of two overrides that have one key the last counts."""
    values = {}
    for override in overrides:
        key = override.get_key_element()
        values[key] = [loosen(f"{key}={value}") for value in _values(override)]  # again, for what a range() gives
    return list(itertools.product(*values.values()))
