"""The sentences that the page opens with, on comparisons that are made up."""

from dataclasses import replace

import pytest

from bench.evidence.comparison import MAIN_METRICS, Comparison
from bench.evidence.pairing import Arm
from bench.report.findings import describe_findings

ACCURACY = "test_accuracy"


def make_arm(regularizer, optimizer, settings=""):
    words = {"arm_id": f"{regularizer} {optimizer}", "regularizer": regularizer, "optimizer": optimizer}
    return Arm({**words, "settings": settings}, {})


def compare(name, verdict, p=0.5, difference=0.01, metric=ACCURACY, optimizer="sgd"):
    """A comparison with `none`."""
    numbers = {"difference": difference, "p_holm": p, "verdict": verdict}
    return Comparison(make_arm(name, optimizer), make_arm("none", optimizer), metric, 5, **numbers)


def describe(*rows, hollow=()):
    """The one sentence; all is beyond the noise of test images but what is named."""
    supported = {each.key for each in rows if each.arm.words["regularizer"] not in hollow}
    (sentence,) = describe_findings(rows, supported)
    return sentence


SAM = compare("sam", "better", 0.01, 0.02)
CUTMIX = compare("cutmix", "worse", 0.01, -0.02)
MIXUP = compare("mixup", "unknown")
ASAM = compare("asam", "the same")


def test_better_and_worse_the_same_and_inconclusive_are_told_apart():
    assert describe(SAM, CUTMIX, MIXUP, ASAM) == (
        "Against `none`, accuracy is better beyond chance for sam; worse beyond chance for cutmix; "
        "the same within the margin of equivalence for asam; "
        "not shown to differ, which does not mean that it is the same, for mixup."
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([SAM, MIXUP], "better beyond chance for sam; worse for no arm; not shown to differ, "),
        ([CUTMIX, MIXUP], "better for no arm; worse beyond chance for cutmix; not shown to differ, "),
        ([CUTMIX], "better for no arm; worse beyond chance for cutmix."),
        ([ASAM], "neither better nor worse beyond chance for any arm; the same within the margin of equivalence for"),
        ([MIXUP, compare("sam", "unknown")], "the same, for both arms."),
        ([compare("sam", "unknown", None)], "neither better nor worse beyond chance for any arm; not tested for sam."),
    ],
)
def test_what_no_arm_is_is_said(rows, sentence):
    assert sentence in describe(*rows)


def test_the_lower_end_is_the_better_one_of_nll():
    better = compare("sam", "better", 0.01, -0.02, metric="test_nll")
    assert describe(better, replace(MIXUP, metric="test_nll")).startswith(
        "Against `none`, NLL is better beyond chance for sam; worse for no arm;"
    )


def test_beyond_chance_is_limited_where_test_images_or_the_margin_limit_it():
    small = compare("dropout", "the same", 0.001, -0.0001)
    told = describe(SAM, MIXUP, small, hollow=("sam",))
    assert "better beyond the noise of seeds, but not shown to be beyond that of test images, for sam;" in told
    assert "worse beyond chance, but by less than the margin of equivalence, for dropout;" in told
    assert "no arm" not in told


def test_optimizers_are_named_where_there_are_several_and_settings_always():
    several = describe(SAM, compare("sam", "better", 0.01, 0.03, optimizer="adam"), MIXUP)
    assert "for sam (sgd, adam);" in several
    assert "for sam rho=2;" in describe(replace(SAM, arm=make_arm("sam", "sgd", "rho=2")), MIXUP)


def test_long_lists_are_counted_and_every_metric_has_its_sentence_in_order():
    many = [compare(f"method_{i}", "unknown") for i in range(20)]
    assert "method_11 and 8 more." in describe(SAM, *many)
    rows = [replace(SAM, metric=metric) for metric in reversed(MAIN_METRICS)]
    nouns = [sentence.split(" is ")[0].split(", ")[1] for sentence in describe_findings(rows, ())]
    assert nouns == ["accuracy", "NLL", "ECE"]
    assert describe_findings([], ()) == []
