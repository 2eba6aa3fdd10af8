"""A user's own images, a folder per class.

As they were split (train/, val/, test/), or split here, stratified and by a fixed seed. Which folders serve is in
class_folders.py; how the files become pixels, and where these are kept, in decode.py and pictures.py.
"""

from functools import partial
from pathlib import Path

from bench.dataset import Source
from bench.dataset.assemble import assemble_pictures, make_decoder
from bench.dataset.class_folders import find_pictures
from bench.dataset.pictures import in_files


def load_image_folder(
    name: str,
    root: str,
    image_size: int | None,
    channels: int,
    flips: bool,
    test_fraction: float,
    background: str = "white",  # the last three have values here for files of users that were written without them
    white: float | None = None,
    max_pixels: int | None = None,
) -> Source:
    """The pictures of a folder as they were split there, or as they are split here.

    Args:
        name: the dataset's, for messages.
        root: the folder that holds train/ and test/, and perhaps val/, or one folder per class.
        image_size: pixels; the shorter side is resized to it and the middle square is cut out. None: as they are.
        channels: 1 (grey) or 3 (colour); pictures are converted.
        flips: whether augmentation mirrors them; not where that changes the class, as of digits, letters and signs.
        test_fraction: in (0, 1), stratified; only where the folder has no test/.
        background: the colour under transparent pixels, by a name of CSS or as #rrggbb.
        white: the value that is white in grey pictures of more than 8 bits. None: as their format says.
        max_pixels: larger pictures are refused. None: none are.

    Raises:
        UsageError: a folder or class that cannot serve, damaged pictures, sizes that differ, too little memory.
    """
    decoder = make_decoder(image_size, channels, background, white, max_pixels)
    settings = {"background": None, "white": None, "max_pixels": None}
    found, encode = find_pictures(Path(root)), partial(in_files, Path(root))
    return assemble_pictures(name, found, encode, decoder, flips, test_fraction, root, settings)
