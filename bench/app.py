"""Hydra: composes a command line into plain typed runs, and launches them. The only module that sees a DictConfig."""

import functools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from bench import CONF, UsageError
from bench.plan import Planned, make_plan
from bench.ranges import check
from bench.record import run_folder
from bench.report import tables, terminal
from bench.run import train_run
from bench.settings import Run, read_run
from bench.train import Epoch

_PLAIN_KEYS = ("seed", "results_dir", "force")
_GROUPS = ("dataset", "model", "regularizer", "optimizer", "train")
_HYDRA_SHOWS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
_SECONDS_BETWEEN_TABLES = 30


class Command(NamedTuple):
    """What a command line asks for: the experiment, its runs, and where their records go."""

    exp: str
    runs: list[Run]
    results: Path
    force: bool


def run(arguments: Sequence[str]) -> int:
    """`regbench run`: trains what is missing of a command's runs and prints their comparison; returns the exit code.

    Raises:
        UsageError: bad input; nothing was trained.
    """
    outcome: list[int] = []

    def command(config: DictConfig, context: HydraContext, sweep: Sequence[str]) -> None:
        outcome.append(_run(_compose(config, context.config_loader, sweep), config, context))

    _start_hydra(command, arguments)
    return outcome[0] if outcome else 0  # no outcome: --cfg, --info and --help show something and train nothing


def _start_hydra(command: Callable[..., None], arguments: Sequence[str]) -> None:
    """Lets Hydra compose the command line and call `command` through our sweeper; its errors are told our way."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us, instead of a print and an exit
    shows = any(argument.split("=")[0] in _HYDRA_SHOWS for argument in arguments)
    multirun = [] if shows or {"-m", "--multirun"} & set(arguments) else ["--multirun"]
    sys.argv = ["regbench run", *multirun, *map(_loosen, arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(command)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_tell(error)) from error


def _loosen(override: str) -> str:
    """Lets Hydra take what we check ourselves, with a better message, and what only some runs of a sweep choose."""
    override = re.sub(r"^exp=", "+exp=", override)
    return re.sub(rf"^(?=({'|'.join(_GROUPS)})\.)", "++", override)


def _tell(error: Exception) -> str:
    """Hydra's message in at most three lines, without its internals."""
    text = str(error) if str(error).strip() else str(error.__cause__)
    unknown = re.search(r"Could not override '([\w.@/]+)'", text)
    if unknown:
        return _no_setting(unknown[1], "the config", [*_GROUPS, *_PLAIN_KEYS])
    text = re.sub(r"(Available options in '[^']*':)((\n\t.*)+)", lambda m: m[1] + " " + ", ".join(m[2].split()), text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    internal = re.compile(r"^(full_key|object_type|reference_type|Config search path|See https?:|provider=)")
    return "\n".join([line.removeprefix("In 'config': ") for line in lines if not internal.match(line)][:3])


def _no_setting(key: str, holder: str, known: Sequence[str]) -> str:
    shown = ", ".join(k for k in known if not k.startswith("_") and k != "slot")
    return f"there is no setting {key}.\nIn {holder} there are: {shown}"


# --- composing -------------------------------------------------------------------------------------------------------


def _compose(config: DictConfig, loader: ConfigLoader, sweep: Sequence[str]) -> Command:
    """All runs of a sweep, composed and checked one by one."""
    exp = OmegaConf.select(config, "hydra.runtime.choices.exp") or "adhoc"
    if not isinstance(exp, str) or any(re.match(r"\+?exp=.*,", override) for override in sweep):
        raise UsageError("+exp takes one experiment.\nRun one after the other, or combine them in a file of their own.")
    overrides = OverridesParser.create(loader).parse_overrides([_loosen(override) for override in sweep])
    combinations = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    settings = _plain(config)
    for key in ("results_dir", "force"):
        if any(override.get_key_element() == key and override.is_sweep_override() for override in overrides):
            raise UsageError(f"{key} cannot be swept.\nGive it one value.")
    check("force", "force", settings["force"])
    composer = functools.cache(functools.partial(_compose_arm, config, loader))
    runs = [_read(*composer(tuple(o for o in each if not o.startswith("seed="))), each) for each in combinations]
    return Command(exp, runs, Path(settings["results_dir"]), settings["force"])


def _compose_arm(
    config: DictConfig, loader: ConfigLoader, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An arm's settings and the names of its choices. Composing takes longer than a small epoch, so seeds share it."""
    for override in overrides:
        parts = re.findall(r"\w+", override.partition("=")[2]) if re.match(r"\w+=\[", override) else []
        if len(parts) > len(set(parts)):
            raise UsageError(f"{override} names one choice twice.\nName each part of a stack once.")
    composed = loader.load_sweep_config(config, list(overrides))
    settings, choices = _plain(composed), dict(composed.hydra.runtime.choices)
    settings.setdefault("regularizer", {})
    if not any("slot" in values for values in settings["regularizer"].values()):  # regularizer=[] means none
        settings["regularizer"]["none"] = {"slot": "none"}
    _check_keys(settings, choices, loader)
    return settings, choices


def _read(settings: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> Run:
    seeds = [override.removeprefix("seed=") for override in overrides if override.startswith("seed=")]
    seed = {"seed": yaml.safe_load(seeds[-1])} if seeds else {}
    return read_run({**settings, **seed}, choices)


def _plain(config: DictConfig) -> dict[str, Any]:
    """The config without Hydra's part, resolved, as a plain dictionary."""
    keys = [str(key) for key in config if key != "hydra"]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, keys), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _check_keys(settings: Mapping[str, Any], choices: Mapping[str, Any], loader: ConfigLoader) -> None:
    """Raises UsageError for a key that its file does not have: Hydra takes any after a plus, or in a file."""
    _check_known("", settings, [*_PLAIN_KEYS, *_GROUPS])
    for group in ("dataset", "model", "train"):
        _check_known(f"{group}.", settings[group], _file_keys(loader, f"{group}/{choices[group]}"))
    for group in ("regularizer", "optimizer"):
        _check_known(f"{group}.", settings[group], loader.get_group_options(group))
        for name, values in settings[group].items():
            _check_known(f"{group}.{name}.", values, _file_keys(loader, f"{group}/{name}"))


def _check_known(path: str, values: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise UsageError(_no_setting(f"{path}{key}", path.rstrip(".") or "the config", known))


def _file_keys(loader: ConfigLoader, name: str) -> list[str]:
    result = loader.repository.load_config(name)  # type: ignore[attr-defined]
    return [str(key) for key in result.config]


# --- training --------------------------------------------------------------------------------------------------------


def _run(command: Command, config: DictConfig, context: HydraContext) -> int:
    """Trains what is missing, rewrites the tables, and shows the comparison; 0 if every run is done, else 1."""
    console = Console(highlight=False)
    plan = make_plan(command.runs, command.results)
    todo = [planned for planned in plan if command.force or planned.status is None]
    words, seeds = [planned.run.words for planned in plan], len({planned.run.seed for planned in plan})
    terminal.show_plan(console, command.exp, words, seeds, len(plan) - len(todo))
    tables.ask(command.results, command.exp, [planned.run_id for planned in plan])
    if todo:
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=context, task_function=functools.partial(_train, todo, command.results)
        )
        with _rewriting_tables(command.results, command.exp):
            launcher.launch([[] for _ in todo], initial_job_idx=0)
    asked = {planned.run_id for planned in plan}
    rows = [row for row in tables.write_tables(command.results, command.exp) if row["run_id"] in asked]
    terminal.show_comparison(console, command.exp, rows)
    console.print(f"Tables: {command.results / command.exp}", soft_wrap=True)
    return 0 if len(rows) == len(plan) and all(row["status"] == "done" for row in rows) else 1


def _train(todo: Sequence[Planned], results: Path, _: DictConfig) -> None:
    """Trains the job's run. Never raises: under Hydra one job's exception hides those of all others."""
    number = int(HydraConfig.get().job.num)
    run, folder = todo[number].run, run_folder(results, todo[number].run_id)
    console = Console(highlight=False)
    differing = [word for axis, word in run.words.items() if len({each.run.words[axis] for each in todo}) > 1]
    short_name = " ".join([f"[{number + 1}/{len(todo)}]", *differing, f"seed {run.seed}"])
    started = time.monotonic()
    with terminal.live_line(console) as show:
        show(short_name)

        def on_epoch(epoch: Epoch, row: dict[str, Any], images_per_second: float) -> None:
            left = (time.monotonic() - started) * (epoch.epochs / epoch.number - 1)
            told = terminal.describe_epoch(row, images_per_second, left)
            show(f"{short_name}: epoch {epoch.number}/{epoch.epochs}, {told}")

        result = train_run(run, folder, on_epoch)
    if not console.is_terminal or result["status"] != "done":
        name = " ".join([f"[{number + 1}/{len(todo)}]", *run.words.values(), f"seed {run.seed}"])
        console.print(f"{name}: {terminal.describe_result(result)}", soft_wrap=True, markup=False)


@contextmanager
def _rewriting_tables(results: Path, exp: str) -> Iterator[None]:
    """Rewrites the tables from time to time, whatever launches the runs, and also when the sweep is interrupted."""
    over = threading.Event()

    def rewrite() -> None:
        while not over.wait(_SECONDS_BETWEEN_TABLES):
            tables.write_tables(results, exp)

    thread = threading.Thread(target=rewrite, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tables.write_tables(results, exp)
