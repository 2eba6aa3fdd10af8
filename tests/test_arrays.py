"""Images and labels in an .npz file: the forms in which MedMNIST and Keras have them, and what cannot serve."""

import zipfile

import numpy as np
import pytest
from conftest import compose

from bench.config.identity import identity
from bench.dataset import _load, load_source
from bench.dataset.arrays import load_arrays
from bench.dataset.digits import load_digits
from bench.errors import UsageError
from bench.sweep.plan import Command, make_plan
from bench.sweep.unused import find_unused
from bench.training.run import train_run

RANDOM = np.random.default_rng(0)
COUNTS = {"train": 24, "val": 6, "test": 12}


def images(n, *shape):
    return RANDOM.integers(0, 256, (n, *(shape or (9, 8))), dtype=np.uint8)


def numbers(n, classes=3):
    return np.arange(n) % classes


def med(counts=COUNTS, *shape):
    """As MedMNIST: labels (N, 1) and, of grey images, no axis of channels."""
    arrays = {f"{split}_images": images(n, *shape) for split, n in counts.items()}
    return arrays | {f"{split}_labels": numbers(n)[:, None].astype(np.uint8) for split, n in counts.items()}


def load(path, flips=True, test_fraction=0.25, **arrays):
    if arrays:
        np.savez(path, **arrays)
    return load_arrays("x", str(path), flips, test_fraction)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "some.npz"


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3)])
def test_medmnist_is_read_with_its_own_splits(shape, file):
    arrays = med(COUNTS, *shape)
    source = load(file, **arrays)
    for split, of_split, labels in source.splits():
        assert (of_split.reshape(arrays[f"{split}_images"].shape) == arrays[f"{split}_images"]).all()
        assert of_split.shape[3] == (3 if len(shape) == 3 else 1)
        assert (labels == arrays[f"{split}_labels"][:, 0]).all()
    assert (source.classes, source.class_names) == (3, ["0", "1", "2"])


@pytest.mark.parametrize("shape", [(24,), (24, 1)])
def test_keras_is_read_and_packed(shape, file):
    arrays = {"x_train": images(24), "y_train": numbers(24).reshape(shape), "x_test": images(6), "y_test": numbers(6)}
    np.savez_compressed(file, **arrays)
    source = load(file, flips=False)
    assert (source.train_images[..., 0] == arrays["x_train"]).all()
    assert (source.train_labels == numbers(24)).all()
    assert (source.test_labels == numbers(6)).all()
    assert source.val_labels is None
    assert not source.flips


def test_without_test_images_some_of_train_are_and_that_is_said(file, capsys):
    source = load(file, **med({"train": 24}))
    assert np.bincount(source.test_labels).tolist() == [2, 2, 2]
    assert np.bincount(source.train_labels).tolist() == [6, 6, 6]
    assert "no test images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([1, 2, 3], ["1", "2", "3"]), ([0, 4, 9], ["0", "4", "9"]), (["b", "a"], ["a", "b"])],
)
def test_labels_may_count_from_1_skip_numbers_or_be_text(labels, classes, file):
    given = np.array(labels)[numbers(24, len(labels))]
    source = load(file, x_train=images(24), y_train=given, x_test=images(len(labels)), y_test=np.array(labels))
    assert source.class_names == classes
    assert [source.class_names[label] for label in source.train_labels] == given.astype(str).tolist()


def test_whatever_integers_the_labels_are_they_become_one_kind(file):
    given = {"y_train": numbers(24).astype(np.uint64), "y_test": numbers(6).astype(np.int8)}
    source = load(file, x_train=images(24), x_test=images(6), **given)
    assert (source.train_labels == numbers(24)).all()
    assert (source.test_labels == numbers(6)).all()


def test_digits_in_a_file_are_digits(file):
    digits = load_digits()
    arrays = {f"{split}_images": each for split, each, _ in digits.splits()}
    arrays |= {f"{split}_labels": each for split, _, each in digits.splits()}
    source = load(file, flips=False, **arrays)
    for (_, ours, labels), (_, theirs, their_labels) in zip(source.splits(), digits.splits(), strict=True):
        assert (ours == theirs).all()
        assert (labels == their_labels).all()
    assert source.class_names == digits.class_names


def test_names_of_classes_may_stand_beside(file):
    assert load(file, **med(), class_names=["ant", "bee", "cat"]).class_names == ["ant", "bee", "cat"]
    with pytest.raises(UsageError, match="a label 2, but the names of 2 classes only"):
        load(file, **med(), class_names=["ant", "bee"])


ONE = {"train_images": images(4), "train_labels": numbers(4)}
BAD = {
    "none of the keys": (
        {"images": images(4), "labels": numbers(4)},
        ["no training images", "images, labels", "x_train"],
    ),
    "images without labels": ({**ONE, "test_images": images(4)}, ["has test_images, but no test_labels"]),
    "several labels, as ChestMNIST has": (
        {**ONE, "train_labels": np.ones((4, 14), int)},
        ["train split has several labels for each image ((4, 14))", "argmax"],
    ),
    "float images": ({**ONE, "train_images": images(4) / 255}, ["float64", "(255 * images).round().astype('uint8')"]),
    "wide integers": ({**ONE, "train_images": images(4).astype(int)}, ["int64", "images.astype('uint8')"]),
    "volumes": ({**ONE, "train_images": images(4, 9, 9, 9)}, ["(4, 9, 9, 9)", "Volumes"]),
    "fewer labels": ({**ONE, "train_labels": numbers(3)}, ["4 images and 3 labels"]),
    "an empty split": ({**ONE, "test_images": images(0), "test_labels": numbers(0)}, ["test split has no images"]),
    "float labels": ({**ONE, "train_labels": np.ones(4)}, ["labels that are float64", "integers or text"]),
    "a test split without labels": (
        {**ONE, "test_images": images(2), "test_labels": np.array([-1, -1])},
        ["all labels of the test split are below 0", "Leave that split out"],
    ),
    "some without labels": (
        {**ONE, "train_labels": np.array([0, 1, -1, 0])},
        ["some labels of the train", "those images"],
    ),
    "a pickle": (
        {**ONE, "train_images": np.array([images(1), images(2)], dtype=object)},
        ["train_images is a pickle", "any code"],
    ),
    "text and numbers": ({**med(), "test_labels": np.array(["a", "b"] * 6)}, ["are numbers", "are text", "Save all"]),
    "channels first": ({**ONE, "train_images": images(4, 3, 32, 32)}, ["(4, 3, 32, 32)", "transpose(0, 2, 3, 1)"]),
    "another size": (
        {**med(), "test_images": images(12, 4, 8)},
        ["(24, 9, 8, 1)", "test images (12, 4, 8, 1)", "Resize"],
    ),
    "one class": ({**ONE, "train_labels": np.full(4, 7)}, ["all labels are 7", "two classes", "Add images"]),
    "fewer names": ({**ONE, "class_names": ["ant"]}, ["a label 2", "names for all labels from 0 to 2"]),
    "labels of bytes": ({**ONE, "train_labels": np.array([b"a", b"b"] * 2)}, ["|S1", "labels.astype(str)"]),
    "labels in a row": ({**ONE, "train_labels": numbers(4)[None]}, ["shape (1, 4)", "labels[0]"]),
    "one label": ({**ONE, "train_labels": np.array(3)}, ["shape ()", "one for each image"]),
    "flat images": ({**ONE, "train_images": images(4, 784)}, ["(4, 784)", "reshape(-1, H, W)"]),
    "images with NaN": ({**ONE, "train_images": np.full((4, 8, 8), np.nan)}, ["NaN", "Decide what stands there"]),
    "images from -1 to 1": ({**ONE, "train_images": images(4) / 127.5 - 1}, ["Save images.astype('uint8'), once"]),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_cannot_serve_say_how_to_mend_them(case, file):
    arrays, parts = BAD[case]
    with pytest.raises(UsageError) as caught:
        load(file, **arrays)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert str(file) in message
    assert all(part in message for part in parts), message


def test_a_pickle_is_not_run(file):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    with pytest.raises(UsageError, match="is a pickle"):
        load(file, **{**ONE, "train_labels": np.array([Trap()] * 4, dtype=object)})


def test_files_that_are_none_are_refused(tmp_path, file):
    np.savez(file, **med())
    whole = file.read_bytes()
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "one.npy", images(3))
    (tmp_path / "damaged.npz").write_bytes(whole[:300] + bytes(100) + whole[400:])
    (tmp_path / "cut.npz").write_bytes(whole[:-200])
    cases = {
        None: "dataset.file=FILE",
        "nothing.npz": "no file",
        ".": "no file",
        "text.npz": "no .npz",
        "one.npy": "no .npz",
    }
    for name, part in (cases | {"damaged.npz": "damaged", "cut.npz": "no .npz"}).items():
        with pytest.raises(UsageError, match=part) as caught:
            load_arrays("x", name and str(tmp_path / name), True, 0.2)
        assert len(str(caught.value).splitlines()) <= 3


def test_archives_that_are_damaged_or_hold_no_arrays_are_refused(file):
    np.savez(file, **med())
    content = bytearray(file.read_bytes())
    content[content.rfind(b"PK\x01\x02")] = 0  # of the central directory
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"(?s)damaged.*anew"):
        load(file)
    for suffix in ("", ".npy"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"train_images{suffix}", b"text")
            archive.writestr(f"train_labels{suffix}", b"text")
        with pytest.raises(UsageError, match=r"(?s)train_images is no array.*numpy\.savez"):
            load(file)


def plan(file, tmp_path, *more):
    _load.cache_clear()  # as in another process
    choices = ("dataset=arrays", f"dataset.file={file}", "model=mlp", "train.device=cpu", "train.batch_size=4")
    return make_plan(Command("adhoc", compose(*choices, *more), tmp_path / "results", arguments=(*choices, *more)))


def test_a_run_trains_under_the_files_name_and_knows_it_by_its_content(file, tmp_path):
    np.savez(file, **med())
    (planned,) = plan(file, tmp_path, "train.epochs=1")
    assert planned.run.dataset.name == "arrays/some"
    result = train_run(planned.run, tmp_path / "run", lambda *_: None)
    assert result["status"] == "done", result["message"]
    (tmp_path / "elsewhere").mkdir()
    file.rename(tmp_path / "elsewhere" / "some.npz")
    (moved,) = plan(tmp_path / "elsewhere" / "some.npz", tmp_path, "train.epochs=1", "dataset.test_fraction=0.5")
    assert moved.run_id == planned.run_id
    assert "dataset.file" not in identity(moved.run)
    np.savez(file, **med())  # other images
    assert plan(file, tmp_path, "train.epochs=1")[0].run_id != planned.run_id


def test_of_what_is_typed_the_file_is_used_and_the_share_for_test_is_not(file, tmp_path):
    np.savez(file, **med())
    choices = ("dataset=arrays", f"dataset.file={file}", "model=mlp", "dataset.test_fraction=0.5", "train.batch_size=4")
    said = [*find_unused(Command("adhoc", compose(*choices), tmp_path, arguments=choices))]
    assert said == [f"dataset.test_fraction=0.5 has no effect: {file} has a test split."]
    (run,) = compose(*choices)
    assert load_source(run.dataset).classes == 3


def test_the_same_bytes_in_another_shape_or_under_other_names_are_other_data(file):
    arrays = med({"train": 24, "test": 12}, 8, 16)
    named = {"class_names": ["ant", "bee", "cat"]}
    turned = {key: each.reshape(-1, 16, 8) if "images" in key else each for key, each in arrays.items()}
    cases = (arrays, turned, arrays | named, arrays | {"class_names": ["bee", "ant", "cat"]})
    prints = [load(file, **each).fingerprint for each in cases]
    assert len({*prints}) == 4
    assert all(len(each) == 64 for each in prints)
    assert load(file, **arrays, class_names=["0", "1", "2"]).fingerprint == prints[0]  # as they are called without
