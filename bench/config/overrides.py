"""What is typed after `regbench run`, put into Hydra's grammar.

Paths and words are text as typed: a folder may be called 2024, 1e5 or a=b, which Hydra by itself would read as numbers
or refuse. Commas still sweep, and quotes and backslashes keep their meaning.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

from bench.config import AXES
from bench.config.plugins import config_files
from bench.config.ranges import RANGES, Word, check, is_text
from bench.errors import UsageError

SWITCHES = ("force", "retry_failed", "fail_fast", "keep_weights", "evaluation")
PLAIN_KEYS = ("seed", "results_dir", *SWITCHES)
GROUPS = (*AXES, "train")
_SHOWS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
_FLAGS = {*_SHOWS, "--resolve", "--package", "-p", "-m", "--multirun"}  # Hydra's; a command is a sweep without -m, too
# One of a sweep, with the comma that ends it: those in quotes or brackets, and after a backslash, do not.
_ELEMENT = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|\[(?:\[[^]]*]|[^]])*]|\{[^}]*}|[^,])*?)\s*,""")
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
_FUNCTION = re.compile(r"(choice|range|shuffle|sort|str|tag)\(.*\)")  # Hydra's own ways to write a sweep
_NOT_NOTED = re.compile(
    r"\+*(results_dir=|hydra(?!\.sweeper)[/.]|(force|keep_weights|retry_failed|fail_fast|evaluation)=|dataset\.root=)|--?m"
)
_NUMBER_LIKE = re.compile(r"(?<![\w.'\"-])([-+]?[\d.][\w.+-]*|true|false|inf|nan)(?![\w.'\"-])", re.IGNORECASE)


def is_override(argument: str) -> bool:
    """Whether an argument sets or takes out something, as flags and their values do not."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def typed_key(override: str) -> str:
    """The key of an override, whatever stands before it."""
    return override.partition("=")[0].lstrip("+~")


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises UsageError for a flag that is not known, or a choice that is none."""
    for argument in arguments:
        if argument.startswith("-") and argument.split("=")[0] not in _FLAGS:
            raise UsageError(f"there is no flag {argument}.\nSettings are written key=value; see regbench run --help")
        group = re.fullmatch(rf"({'|'.join(GROUPS)})=(.*,)?(null)?(,.*)?", argument)
        if group or argument.startswith("hydra/sweeper"):
            raise UsageError(f"{argument} is not a choice.\n`regbench list` shows what there is.")


def show_command(verb: str, arguments: Iterable[str]) -> str:
    """A command that asks for runs as it is noted: less what says where and how they are trained, not which."""
    return shlex.join(["regbench", verb, *(each for each in arguments if not _NOT_NOTED.match(each))])


def only_shows(arguments: Sequence[str]) -> bool:
    """Whether one of Hydra's flags has it print something, and nothing train."""
    return any(argument.split("=")[0] in _SHOWS for argument in arguments)


def to_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments in Hydra's grammar, its flags and their values first."""
    others = [a for a in arguments if not is_override(a) and a not in ("-m", "--multirun")]
    return [*others, *(loosen(argument) for argument in arguments if is_override(argument))]


def loosen(override: str) -> str:
    """Lets Hydra take what we check ourselves, with a better message, and what only some runs of a sweep choose.

    Paths and words come out quoted; what it has returned comes out as it is.
    """
    override = re.sub(r"^exp=", "+exp=", override)
    override = re.sub(rf"^\+*(?=({'|'.join(PLAIN_KEYS)})=)", "", override)
    override = re.sub(rf"^(?=({'|'.join(GROUPS)})\.)", "++", override)
    key, equals, value = override.partition("=")
    if typed_key(override) in (*GROUPS, "exp"):
        return key + equals + _NUMBER_LIKE.sub(lambda name: quote(name[0]), value)
    if not equals or not is_text(typed_key(override)) or _FUNCTION.fullmatch(value):
        return override
    elements = [element[1] for element in _ELEMENT.finditer(f"{value},")]
    return f"{key}={','.join(_as_text(typed_key(override), element) for element in elements)}"


def _as_text(key: str, element: str) -> str:
    """One value of a path or a word, quoted; null means none, and a folder of that name is ./null."""
    quoted = re.fullmatch(r"""(["']).*\1""", element, re.DOTALL)
    if quoted or (not isinstance(RANGES.get(key), Word) and element.lower() == "null"):
        return element
    text = _ESCAPED.sub(r"\1", element)
    if text.startswith("~"):
        check(key, key, text)  # also where no run has such a key
    return quote(text)


def quote(text: str) -> str:
    """A text in Hydra's quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def unquote(override: str) -> str:
    """The override as Hydra would read it without `loosen`: for a user's own choice, whose values have any type."""
    key, _, value = override.partition("=")
    return f"{key}={OverridesParser.create().parse_rule(value, 'value').text}" if value.startswith("'") else override


def take_name(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments less an `exp=NAME` that is no experiment's file: it names what the others ask for; and the name.

    Raises:
        UsageError: it cannot be a folder's name, or looks like an experiment's that is misspelt.
    """
    files = [file.stem for file in config_files("exp")]
    typed = [a for a in arguments if a.startswith("exp=") and "," not in a and a.removeprefix("exp=") not in files]
    if not typed:
        return list(arguments), None
    if len(typed) > 1:
        raise UsageError(f"{' '.join(typed)}: a command has one name.\nGive exp once.")
    name, others = typed[0].removeprefix("exp="), [argument for argument in arguments if argument not in typed]
    check("exp", "exp", name)
    _check_spelling(name, files, others)
    return others, name


def _check_spelling(name: str, files: Sequence[str], others: Sequence[str]) -> None:
    """A name that holds an experiment's whole name (digits_2) is no slip; one that stands alone asks for nothing."""
    chooses = any(typed_key(other).partition(".")[0] in (*GROUPS, "exp") for other in others if is_override(other))
    nearest = [file for file in get_close_matches(name, files, n=2, cutoff=0.8) if file not in name]
    if not chooses or nearest:
        meant = f"; did you mean {' or '.join(nearest)}?" if nearest else "."
        raise UsageError(
            f"there is no experiment {name}{meant}\nThere are: {', '.join(sorted(files))}\n"
            "A name for a command of your own is unlike these, and comes with choices: exp=mine regularizer=none,sam"
        )
