"""Claims as files: conf/exp/claims/<id>.yaml, and a user's own beside them, each an experiment with a node `claim`.

What it says is fixed before its runs: which arms, which measure, and the region in which the effect must lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.config.plugins import config_files
from bench.errors import UsageError

GROUP = "exp/claims"
_EFFECTS = ("difference", "ratio")
_BESIDE = ("measure", "arm", "against")
_TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("statement", "measure", "region", "effect"), (str, "a text")),
    **dict.fromkeys(("arm", "against"), (Mapping, "settings, such as {regularizer: sam}")),
    "any_suffices": (bool, "true or false"),
    **dict.fromkeys(("beside", "reported"), (list, "a list")),
}


@dataclass(frozen=True)
class Claim:
    """What is claimed, and how it is put to the test.

    Attributes:
        id: the file's name.
        statement: in words.
        measure: a column of runs.csv.
        region: of the effect, as `parse_region` reads it; in the column's own unit.
        arm: settings of the arms that it is about, as in arms.json; of a list any value will do.
        against: those of the arms that they are compared with.
        effect: `difference` of arm and baseline in each seed, or their `ratio`.
        any_suffices: whether one of several arms makes the claim true, as in "can".
        beside: other columns, or other arms, whose effects are shown without a verdict.
        reported: what papers report, a line each.
    """

    id: str
    statement: str
    measure: str
    region: str
    arm: Mapping[str, Any]
    against: Mapping[str, Any]
    effect: str = "difference"
    any_suffices: bool = False
    beside: Sequence["Claim"] = ()
    reported: Sequence[str] = ()


def claim_files() -> dict[str, Path]:
    """The files of all claims by id, those of conf/ first; names that begin with _ are what claims share."""
    return {file.stem: file for file in config_files(GROUP) if not file.stem.startswith("_")}


def read_claim(identifier: str, node: Any) -> Claim:
    """A claim of its file's node.

    Raises:
        UsageError: it lacks a key, has another one, or a value that is none.
    """
    file = f"{GROUP}/{identifier}.yaml"
    known = {field.name: field for field in fields(Claim) if field.name != "id"}
    if not isinstance(node, Mapping) or unknown_keys(node, known):
        there = f"has {', '.join(unknown_keys(node, known))}" if isinstance(node, Mapping) else "has no node `claim`"
        raise UsageError(f"{file} {there}.\nA claim has the keys: {', '.join(known)}")
    if lacking := [
        key for key in ("statement", "measure", "region", "arm", "against") if node.get(key) in (None, "", {})
    ]:
        raise UsageError(f"{file}: its claim lacks {', '.join(lacking)}.\nSee {GROUP}/sam_flat.yaml for an example.")
    _check_types(file, node)
    claim = Claim(identifier, **{key: node[key] for key in known if key in node and key != "beside"})
    if claim.effect not in _EFFECTS:
        raise UsageError(f"{file}: claim.effect={claim.effect} is not allowed.\nIt is one of: {', '.join(_EFFECTS)}")
    beside = [_read_beside(file, claim, each) for each in node.get("beside") or ()]
    return replace(claim, beside=beside)


def _read_beside(file: str, claim: Claim, node: Any) -> Claim:
    """A column, or a mapping of `measure`, `arm` and `against`, of which the claim's own stand for what it lacks."""
    values = {"measure": node} if isinstance(node, str) else node
    if not isinstance(values, Mapping) or unknown_keys(values, dict.fromkeys(_BESIDE)):
        raise UsageError(f"{file}: beside holds {node}.\nIt lists columns, or mappings of: {', '.join(_BESIDE)}")
    _check_types(f"{file}: beside", values)
    return replace(claim, effect="difference", **values)


def _check_types(file: str, node: Mapping[str, Any]) -> None:
    """Raises UsageError where a value is of another type than its key has."""
    for key, value in node.items():
        if not isinstance(value, _TYPES[key][0]):
            raise UsageError(f"{file}: claim.{key}={value} is not allowed.\n{key} is {_TYPES[key][1]}.")
    if not all(isinstance(line, str) for line in node.get("reported", ())):
        raise UsageError(f"{file}: claim.reported is a list of texts.\nQuote each line.")


def unknown_keys(node: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The keys of a node that no claim has."""
    return [str(key) for key in node if key not in known]
