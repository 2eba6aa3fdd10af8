"""Hydra's error messages in our words: what was wrong, what there is, without Hydra's internals."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from bench.config import CONF
from bench.config.overrides import GROUPS, PLAIN_KEYS
from bench.config.settings import DESCRIBES


def explain_hydra_error(error: Exception) -> str:
    """Hydra's message in at most three lines, without its internals."""
    text = str(error) if str(error).strip() else str(error.__cause__)
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous:
        return f"{ambiguous[1]} is a sweep, and --cfg and --info show one run.\nGive each key one value: seed=0"
    unknown = re.search(r"Could not override '([\w.@/]+)'", text)
    if unknown and unknown[1].startswith("hydra.launcher."):
        return (
            f"there is no setting {unknown[1]}.\nThe launcher's file in {CONF / 'hydra' / 'launcher'} has all of them."
        )
    if unknown:
        return no_setting(unknown[1], "the config", [*GROUPS, *PLAIN_KEYS])
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']*':((?:\n\t.*)+)", text)
    if missing:
        group, name, options = missing[1], missing[2], missing[3].split()
        message = f"there is no {group} {name}{did_you_mean(name, options) or '.'}\nThere are: {', '.join(options)}"
        return message + "\nexp=NAME, without the plus, names a command of your own." * (group == "exp")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    internal = re.compile(r"^(full_key|object_type|reference_type|Config search path|See https?:|provider=)")
    return "\n".join([line.removeprefix("In 'config': ") for line in lines if not internal.match(line)][:3])


def no_setting(key: str, holder: str, known: Iterable[str]) -> str:
    """That `holder` has no setting of that name, with the nearest ones, and all that it has."""
    keys = [k for k in known if k not in DESCRIBES]
    nearest = did_you_mean(key.rpartition(".")[2], keys)
    return f"there is no setting {key}{nearest or '.'}\nIn {holder} there are: {', '.join(keys)}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The words that are most like one that is not known, as the end of a sentence; empty where none is."""
    as_written = {each.lower(): each for each in known}
    nearest = [as_written[each] for each in get_close_matches(word.lower(), as_written, n=2, cutoff=0.5)]
    return f"; did you mean {' or '.join(nearest)}?" if nearest else ""
