"""What each class was taken for: the rows of confusion.csv."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from bench.evidence.confusion import MATRIX, PAIRS, confusion
from bench.evidence.stats import t_interval
from bench.measure.metric import balanced_accuracy


def draw(classes, n=300, seeds=3):
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    return [random.standard_normal((n, classes)) + 2 * np.eye(classes)[labels] for _ in range(seeds)], labels


def by_cell(rows):
    return {(row["label"], row["prediction"]): row for row in rows}


@pytest.mark.parametrize("classes", [2, 7, MATRIX])
def test_up_to_20_classes_it_is_scikit_learns_matrix_averaged_over_the_seeds(classes):
    logits, labels = draw(classes)
    theirs = [confusion_matrix(labels, each.argmax(1), normalize="true", labels=range(classes)) for each in logits]
    cells = by_cell(confusion(logits, labels))
    ours = np.array([[cells.get((i, j), {"share": 0})["share"] for j in range(classes)] for i in range(classes)])
    assert ours == pytest.approx(np.mean(theirs, 0), abs=1e-12)
    for (i, j), row in cells.items():
        inside = np.clip(t_interval([each[i, j] for each in theirs]), 0, 1)  # no share is beyond
        assert (row["low"], row["high"]) == pytest.approx(inside, abs=1e-12)
        assert (row["seeds"], row["images"]) == (3, (labels == i).sum())


@pytest.mark.parametrize("classes", [10, 100])
def test_the_mean_of_the_diagonal_is_balanced_accuracy(classes):
    logits, labels = draw(classes)
    own = [row["share"] for (i, j), row in by_cell(confusion(logits, labels)).items() if i == j]
    assert np.mean(own) == pytest.approx(np.mean([balanced_accuracy(each, labels) for each in logits]))


def test_of_many_classes_it_is_the_diagonal_and_the_pairs_of_most_images():
    logits, labels = draw(100, 2000)
    whole = sum(confusion_matrix(labels, each.argmax(1), labels=range(100)) for each in logits)
    cells = by_cell(confusion(logits, labels))
    assert {(k, k) for k in range(100)} <= cells.keys()
    wrong = [cell for cell in cells if cell[0] != cell[1]]
    assert len(wrong) == PAIRS
    np.fill_diagonal(whole, 0)
    assert sorted(whole[cell] for cell in wrong) == sorted(whole.ravel())[-PAIRS:]


def test_absent_classes_classes_never_predicted_and_ties():
    cells = by_cell(confusion([np.zeros((3, 4))], np.array([0, 2, 2])))
    assert {cell: row["share"] for cell, row in cells.items()} == {(0, 0): 1.0, (2, 0): 1.0, (2, 2): 0.0}
    assert {(row["low"], row["high"]) for row in cells.values()} == {(None, None)}  # one seed


def test_equal_seeds_have_an_interval_of_nothing():
    (logits, *_), labels = draw(3, 30)
    assert all(row["low"] == row["share"] == row["high"] for row in confusion([logits] * 3, labels))
