"""What of a folder of pictures is part of a run's identity."""

import numpy as np
from conftest import compose
from PIL import Image

from bench.config.identity import identity
from bench.dataset import _load
from bench.sweep.plan import Command, make_plan


def test_where_the_folder_lies_and_what_it_is_called_is_no_part_of_a_runs_identity(split, tmp_path):
    def identify(*overrides):
        (run,) = compose("dataset=image_folder", "train.device=cpu", "train.batch_size=2", *overrides)
        (planned,) = make_plan(Command("adhoc", [run], tmp_path / "results"))
        return planned.run_id

    here = identify(f"dataset.root={split}", "dataset.name=pets")
    assert identify(f"dataset.root={split}") != here  # the word in tables is another
    split.rename(split.with_name("elsewhere"))
    assert identify(f"dataset.root={split.with_name('elsewhere')}", "dataset.name=pets") == here
    assert identify(f"dataset.root={split.with_name('elsewhere')}", "dataset.name=pets", "dataset.image_size=8") != here


OVERRIDES = ("dataset=image_folder", "train.device=cpu", "train.batch_size=2", "dataset.image_size=8")


def identify(root, *overrides):
    """The identity that a run on the folder has, and its run_id."""
    _load.cache_clear()  # as in another process
    (planned,) = make_plan(Command("adhoc", compose(*OVERRIDES, f"dataset.root={root}", *overrides), root / "results"))
    return identity(planned.run), planned.run_id


def test_settings_of_pictures_are_part_of_the_identity_only_where_a_picture_uses_them(split):
    new = {"dataset.background", "dataset.white", "dataset.max_pixels"}
    plain = identify(split, "dataset.name=x")
    assert not new & plain[0].keys()
    for same in ("dataset.background=black", "dataset.white=100", "dataset.max_pixels=null"):
        assert identify(split, "dataset.name=x", same) == plain
    Image.new("RGBA", (12, 10)).save(split / "train" / "cat" / "0.png")
    white = identify(split, "dataset.name=x")
    assert {key: white[0].get(key) for key in new & white[0].keys()} == {"dataset.background": "#ffffff"}
    assert identify(split, "dataset.name=x", "dataset.background='#FFF'") == white
    assert identify(split, "dataset.name=x", "dataset.background=black")[1] != white[1]
    values = np.arange(120, dtype=np.uint16).reshape(10, 12)
    Image.fromarray(values + 65000).save(split / "train" / "cat" / "0.png")
    assert identify(split, "dataset.name=x", "dataset.white=65535") == identify(split, "dataset.name=x")
    Image.fromarray(values).save(split / "train" / "cat" / "0.png")
    assert identify(split, "dataset.name=x", "dataset.white=4095")[0]["dataset.white"] == 4095


def test_a_run_on_a_folder_that_has_nothing_of_what_was_misread_keeps_its_run_id(tmp_path):
    for i in range(12):
        (tmp_path / "pets" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        header = b"P5 4 4 255\n" if i % 3 else b"P6 4 4 255\n"
        content = header + bytes(range(i, i + (16 if i % 3 else 48)))
        (tmp_path / "pets" / "ab"[i % 2] / f"{i}.ppm").write_bytes(content)
    _, run_id = identify(tmp_path / "pets", "train.precision=fp32", "train.epochs=3", "seed=7")
    assert run_id == "cb19842f0d3f"
