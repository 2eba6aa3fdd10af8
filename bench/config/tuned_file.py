"""The file of a tuned experiment: another one's, with a learning rate for each arm."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from bench.config.overrides import SWITCHES

MADE_BY = "# made by regbench tune: "  # how its files are told from what was written by hand
_NOT_KEPT = ("exp", "seed", "results_dir", *SWITCHES)  # of the command, and no arm's


class TunedArm(NamedTuple):
    """An arm: Hydra's overrides that make it, its own settings, and what is said of them."""

    overrides: Sequence[str]
    own: Mapping[str, float]
    comment: str


def show_tuned(name: str, command: str, how: str, arms: Sequence[TunedArm], seeds: Iterable[int]) -> str:
    """The text of the file of an experiment's tuned form.

    What all arms share is a parameter, and what tells them apart stands in the list of arms; all else comes from the
    experiment's own file, if it has one.

    Args:
        name: the experiment's.
        command: which makes the file.
        how: the learning rates were chosen, on one line.
        arms: of the experiment.
        seeds: of the experiment.
    """
    all_overrides = [{each.partition("=")[0].lstrip("+"): each.partition("=")[2] for each in arm[0]} for arm in arms]
    exp = all_overrides[0].get("exp", "").strip("'\"")
    kept = [{k: _plain(v) for k, v in each.items() if k not in _NOT_KEPT} for each in all_overrides]
    shared = {key: value for key, value in kept[0].items() if all(each.get(key) == value for each in kept)}
    params = {**shared, "seed": ",".join(map(str, seeds))}
    lines = [
        "# @package _global_",
        f"# {PurePath(name).name}, each arm at a learning rate of its own",
        MADE_BY + " ".join(command.split()),
        f"# {how}",
        *(["defaults:", f"  - {_flow(f'/exp/{exp}')}"] if exp else []),
        *("", "hydra:", "  mode: MULTIRUN", "  sweeper:", "    tuned: [optimizer.lr]", "    params:"),
        *(f"      {_flow({key: value})[1:-1]}" for key, value in params.items()),
        "    arms:",
    ]
    for arm, overrides in zip(arms, kept, strict=True):
        telling = {key: value for key, value in overrides.items() if key not in shared}
        lines.append(f"      - {_flow({**telling, **arm.own})}  # {arm.comment}")
    return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """One that quotes a text like 1e5, too, which OmegaConf takes for a number, and PyYAML does not."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*[eE][-+]?\d+$"), [*"-+0123456789"])


def _plain(value: str) -> Any:
    """A number as one, where it is written alike; else the text, which is Hydra's."""
    number = yaml.safe_load(value) if value.replace(".", "").isdigit() else None
    return number if str(number) == value else value


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    style: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": 10**9, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, **style)
    return text.removesuffix("...\n").strip()
