"""Hydra, for as long as a command needs it: with our conf/, beside whatever the calling code has of it.

Hydra keeps its state in the process, and a notebook may have a Hydra of its own: all that is ours is put back at the
end. What Hydra has no public way for is here and nowhere else:
    - a launcher's file of ours that has the name of a plugin's is merged with the plugin's node in the ConfigStore, and
      there is no call that removes one: our files' names are taken out of `ConfigStore.repo`, and put back;
    - HydraContext's callbacks are of a private class: those that a user's own apps may derive from stand for it;
    - what `--cfg`, `--info` and `--help` print comes from `hydra.main`, which reads nothing but sys.argv.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext
from hydra.version import VersionBase
from omegaconf.errors import OmegaConfBaseException

from bench.config import CONF
from bench.config.messages import explain_hydra_error
from bench.config.overrides import check_arguments, take_name, to_hydra
from bench.config.plugins import user_folder
from bench.errors import UsageError

_VERSION = "1.3"  # whose behaviour is asked for


@contextmanager
def own_hydra() -> Iterator[HydraContext]:
    """Within it Hydra composes from our conf/; what it needs to launch."""
    with _kept_state(), hydra.initialize_config_dir(str(CONF), "regbench", version_base=_VERSION):
        yield HydraContext(GlobalHydra.instance().config_loader(), cast(Any, Callback()))


@contextmanager
def explaining() -> Iterator[None]:
    """Hydra's errors as UsageErrors, in our words."""
    try:
        yield
    except OverrideParseException as error:
        raise UsageError(
            f"cannot read {error.override.lstrip('+')}\n"
            "An override is key=value; quote a value with special characters twice: 'key=\"a, b\"'. ~ is not expanded."
        ) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(explain_hydra_error(error)) from error


def show(arguments: Sequence[str]) -> None:
    """Has Hydra print what its flags among a command's arguments ask for.

    Raises:
        UsageError: bad input.
    """
    others, _ = take_name(arguments)
    check_arguments(others)
    typed = sys.argv
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us, instead of a print and an exit
    sys.argv = ["regbench run", *to_hydra(others)]
    try:
        with _kept_state(), explaining():
            hydra.main(version_base=_VERSION, config_path=str(CONF), config_name="config")(lambda config: None)()
    finally:
        sys.argv = typed


class _UserFolder(SearchPathPlugin):
    """Puts the user's folder behind conf/; a plugin cannot be taken back, so it does so for us only."""

    asked = False

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra wherever it starts."""
        if self.asked and (folder := user_folder()):
            search_path.append("command-line", f"file://{folder}")


@contextmanager
def _kept_state() -> Iterator[None]:
    """Within it Hydra starts as in a fresh process, for us, and after it all is as it was."""
    found, found_hydra, config = GlobalHydra.instance(), GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    name, version, asked = JobRuntime.instance().get("name"), VersionBase.instance().version_base, _UserFolder.asked
    Plugins.instance().register(_UserFolder)
    found.clear()
    _UserFolder.asked = True
    try:
        with _own_launcher_files():
            yield
    finally:  # each instance asked for anew: a launcher may have put another one there
        _UserFolder.asked = asked
        GlobalHydra.set_instance(found)
        found.hydra = found_hydra
        HydraConfig.instance().cfg = config
        JobRuntime.instance().set("name", name)
        VersionBase.instance().version_base = version


@contextmanager
def _own_launcher_files() -> Iterator[None]:
    """Within it conf/hydra/launcher/ replaces the plugins' nodes of the same names."""
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    files = [file.name for file in (CONF / "hydra" / "launcher").glob("*.yaml") if file.name in stored]
    theirs = {name: stored.pop(name) for name in files}
    try:
        yield
    finally:
        ConfigStore.instance().repo["hydra"]["launcher"].update(theirs)
