"""Hydra: composes a command line into plain typed runs, and launches them. The only module that sees a DictConfig."""

import functools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from bench import CONF, UsageError
from bench.plan import Planned, make_plan
from bench.ranges import check
from bench.record import arm_id, identity, run_folder
from bench.report import tables, terminal
from bench.run import train_run
from bench.settings import Run, read_run
from bench.train import Epoch

_PLAIN_KEYS = ("seed", "results_dir", "force")
_FIXED = ("_target_", "slot", "sets")  # keys that say what a choice is
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
    sys.argv = ["regbench run", *_arrange(arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(command)()
    except OverrideParseException as error:
        raise UsageError(
            f"cannot read {error.override.lstrip('+')}\n"
            "An override is key=value; quote a value with special characters twice: 'key=\"a, b\"'. ~ is not expanded."
        ) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(_tell(error)) from error


def _arrange(arguments: Sequence[str]) -> list[str]:
    """Hydra's flags first, then the overrides; a command is always a sweep, unless a flag only shows something."""
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    others = [a for a in arguments if a not in overrides and a not in ("-m", "--multirun")]
    known = get_args_parser()._option_string_actions
    for argument in others:
        if argument.startswith("-") and argument.split("=")[0] not in known:
            raise UsageError(f"there is no flag {argument}.\nSettings are written key=value; see regbench run --help")
    for override in overrides:
        if re.fullmatch(rf"({'|'.join(_GROUPS)})=(.*,)?(null)?(,.*)?", override) or override.startswith(
            "hydra/sweeper"
        ):
            raise UsageError(f"{override} is not a choice.\n`regbench list` shows what there is.")
    multirun = [] if any(other.split("=")[0] in _HYDRA_SHOWS for other in others) else ["--multirun"]
    return [*multirun, *others, *map(_loosen, overrides)]


def _loosen(override: str) -> str:
    """Lets Hydra take what we check ourselves, with a better message, and what only some runs of a sweep choose."""
    override = re.sub(r"^exp=", "+exp=", override)
    override = re.sub(rf"^\+*(?=({'|'.join(_PLAIN_KEYS)})=)", "", override)
    return re.sub(rf"^(?=({'|'.join(_GROUPS)})\.)", "++", override)


def _tell(error: Exception) -> str:
    """Hydra's message in at most three lines, without its internals."""
    text = str(error) if str(error).strip() else str(error.__cause__)
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous:
        return f"{ambiguous[1]} is a sweep, and --cfg and --info show one run.\nGive each key one value: seed=0"
    unknown = re.search(r"Could not override '([\w.@/]+)'", text)
    if unknown:
        return _no_setting(unknown[1], "the config", [*_GROUPS, *_PLAIN_KEYS])
    text = re.sub(r"(Available options in '[^']*':)((\n\t.*)+)", lambda m: m[1] + " " + ", ".join(m[2].split()), text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    internal = re.compile(r"^(full_key|object_type|reference_type|Config search path|See https?:|provider=)")
    return "\n".join([line.removeprefix("In 'config': ") for line in lines if not internal.match(line)][:3])


def _no_setting(key: str, holder: str, known: Iterable[str]) -> str:
    shown = ", ".join(k for k in known if k not in _FIXED)
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
        check(key, key, settings.get(key))
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
    """Raises UsageError where settings and files differ in keys: Hydra takes any after a plus, or in a file."""
    _check_node("", settings, dict.fromkeys([*_PLAIN_KEYS, *_GROUPS]), whole=True)
    for group in ("dataset", "model", "train"):
        _check_node(f"{group}.", settings[group], _file(loader, f"{group}/{choices[group]}"), whole=True)
    for group in ("regularizer", "optimizer"):
        _check_node(f"{group}.", settings[group], dict.fromkeys(loader.get_group_options(group)), whole=False)
        for name, values in settings[group].items():
            chosen = isinstance(values, dict) and "slot" in values
            _check_node(f"{group}.{name}.", values, _file(loader, f"{group}/{name}"), whole=chosen)


def _check_node(path: str, values: Any, file: Mapping[str, Any], whole: bool) -> None:
    if not isinstance(values, dict):
        raise UsageError(f"{path.rstrip('.')}={values} is not a choice.\nSet one of: {', '.join(file)}")
    for key in values:
        if key not in file:
            raise UsageError(_no_setting(f"{path}{key}", path.rstrip(".") or "the config", file))
        if key in _FIXED and values[key] != file[key]:
            raise UsageError(f"{path}{key} cannot be changed.\nIt says what the choice is; choose another instead.")
    for key in file:
        if whole and key not in values:
            raise UsageError(f"{path}{key} was taken out.\nEvery run needs it: give it a value instead.")


def _file(loader: ConfigLoader, name: str) -> dict[str, Any]:
    """A config file's own content, as a plain dictionary that is not resolved."""
    content = OmegaConf.to_container(loader.repository.load_config(name).config)  # type: ignore[attr-defined]
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


# --- training --------------------------------------------------------------------------------------------------------


def _run(command: Command, config: DictConfig, context: HydraContext) -> int:
    """Trains what is missing, rewrites the tables, and shows the comparison; 0 if every run is done, else 1."""
    console = Console(highlight=False)
    plan = make_plan(command.runs, command.results)
    todo = [planned for planned in plan if command.force or planned.status is None]
    words, seeds = [planned.run.words for planned in plan], len({planned.run.seed for planned in plan})
    arms = len({arm_id(planned.run) for planned in plan})
    terminal.show_plan(console, command.exp, words, arms, seeds, len(plan) - len(todo))
    asked = [planned.run_id for planned in plan]
    try:
        tables.ask(command.results, command.exp, asked)
    except OSError as error:
        raise UsageError(f"results_dir={command.results} cannot be written to: {error.strerror}.") from error
    with _rewriting_tables(command.results, command.exp):
        if todo:
            task = functools.partial(_train, todo, command.results)
            launcher = Plugins.instance().instantiate_launcher(config=config, hydra_context=context, task_function=task)
            launcher.launch([[] for _ in todo], initial_job_idx=0)
    rows = {row["run_id"]: row for row in tables.read_csv(command.results / command.exp / "runs.csv")}
    shown = [row for identifier, row in rows.items() if identifier in asked]
    terminal.show_comparison(console, command.exp, shown)
    for identifier in asked:
        if identifier not in rows:
            console.print(f"not recorded: {identifier}; the same command tries again", markup=False)
    console.print(f"Tables: {command.results / command.exp}", soft_wrap=True, markup=False)
    return 0 if len(shown) == len(plan) and all(row["status"] == "done" for row in shown) else 1


def _train(todo: Sequence[Planned], results: Path, _: DictConfig) -> None:
    """Trains the job's run. Never raises: under Hydra one job's exception hides those of all others."""
    number = int(HydraConfig.get().job.num)
    run, folder = todo[number].run, run_folder(results, todo[number].run_id)
    console = Console(highlight=False)
    place, settings = f"[{number + 1}/{len(todo)}]", _telling_settings(run, [each.run for each in todo])
    differing = [word for axis, word in run.words.items() if len({each.run.words[axis] for each in todo}) > 1]
    short_name = " ".join([place, *differing, *settings, f"seed {run.seed}"])
    started = time.monotonic()
    with terminal.live_line(console) as show:
        show(short_name)

        def on_epoch(epoch: Epoch, row: dict[str, Any], images_per_second: float) -> None:
            left = (time.monotonic() - started) * (epoch.epochs / epoch.number - 1)
            told = terminal.describe_epoch(row, images_per_second, left)
            show(f"{short_name}: epoch {epoch.number}/{epoch.epochs}, {told}")

        try:
            result = train_run(run, folder, on_epoch)
        except Exception as error:  # a full disk, say: there is no record, so the same command trains it again
            result = {"status": "failed", "message": f"it could not be recorded: {error}"}
    if not console.is_terminal or result["status"] != "done":
        name = " ".join([place, *run.words.values(), *settings, f"seed {run.seed}"])
        console.print(f"{name}: {terminal.describe_result(result)}", soft_wrap=True, markup=False)


def _telling_settings(run: Run, runs: Sequence[Run]) -> list[str]:
    """What tells a run apart from others that share its four words, seed aside: `rho=0.1`."""
    like = [identity(each) for each in runs if each.words == run.words]
    settings = identity(run).items()
    return [f"{k.rpartition('.')[2]}={v}" for k, v in settings if k != "seed" and any(o.get(k) != v for o in like)]


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
