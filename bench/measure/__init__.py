"""What a number is: metrics of logits and their columns, without torch.

A metric is one function, declared beside it by `of_test` or `of_every_split`, in a module of this package: runs.csv,
summary.csv, comparison.csv, the report and the page take it up from there. One in a module of its own comes last.
"""

from importlib import import_module
from pkgutil import iter_modules

from bench.measure.quantities import DECLARED

for _name in dict.fromkeys(["metric", "scores", *sorted(module.name for module in iter_modules(__path__))]):
    import_module(f"{__name__}.{_name}")

SPLITS = ("test", "val", "train")
OF_EVERY_SPLIT = [each for each in DECLARED.values() if len(each.columns) > 1]
# What arms are compared by, by column.
QUALITIES = {
    quantity.column: quantity
    for quantity in (
        *(each.quantities[split] for split in SPLITS for each in OF_EVERY_SPLIT),
        *(quantity for each in DECLARED.values() if len(each.columns) == 1 for quantity in each.quantities.values()),
    )
}
# What is made of the logits beyond the metrics of every split, by column.
SCORES = [column for column, each in DECLARED.items() if len(each.columns) == 1 and not each.where]
# What some runs alone have.
OF_SOME_RUNS = [column for column, each in DECLARED.items() if each.where]
