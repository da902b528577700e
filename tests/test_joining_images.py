"""Images and class folders as readers have them: each odd case is read as it should be, or is one clear error."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelaug_core.data import DataError, content_hash
from labelaug_core.files.images import (
    IMAGE_SUFFIXES,
    LARGEST,
    PLUGINS,
    UNREAD_SUFFIXES,
    ImageFiles,
    check_images,
    open_image,
)
from labelaug_core.joining.class_folders import class_folders


def draw(path, seed=0, size=(14, 12), mode="RGB", kind="JPEG"):
    """A small image of noise blocks, saved as `kind` whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, kind)


# ---- one file ---------------------------------------------------------------------------------------------------


KINDS = [("CMYK", "JPEG"), ("P", "GIF"), ("L", "JPEG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("RGB", "WEBP")]


@pytest.mark.parametrize(
    ("mode", "kind"), [*KINDS, ("RGB", "AVIF"), ("RGB", "JPEG2000"), ("L", "PPM"), ("RGB", "TIFF")]
)
def test_any_image_behind_jpg_is_read_as_rgb(tmp_path, mode, kind):
    draw(tmp_path / "a.jpg", mode=mode, kind=kind)
    out = ImageFiles([tmp_path / "a.jpg"], 8)[np.array([0])]
    assert out.shape == (1, 8, 8, 3) and out.dtype == np.uint8 and out.std() > 0


def test_image_is_turned_as_its_exif_says(tmp_path):
    half = np.zeros((8, 8, 3), dtype=np.uint8)
    half[:4] = 255  # light above, dark below
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(half).save(tmp_path / "a.png", exif=exif)
    out = ImageFiles([tmp_path / "a.png"], 8)[np.array([0])][0]
    assert out[0].mean() < 50 and out[-1].mean() > 200


RAMP = np.linspace(0, 1, 64).reshape(8, 8)
DEEP = {
    "16 bits.png": (RAMP * 65535).astype(np.uint16),
    "12 of 16 bits.png": (RAMP * 4095).astype(np.uint16),
    "16 bits.tif": (RAMP * 65535).astype(np.uint16),
    "unit.tif": RAMP.astype(np.float32),
    "signed.tif": (RAMP * 2 - 1).astype(np.float32),
    "32 bits.tif": (RAMP * 1e6 - 5e5).astype(np.int32),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_scaled_by_the_true_range(tmp_path, name):
    Image.fromarray(DEEP[name]).save(tmp_path / name)
    pixels = np.asarray(open_image(tmp_path / name)).astype(int)
    assert pixels.shape == (8, 8, 3) and abs(pixels[..., 0] - np.rint(RAMP * 255)).max() <= 1


def test_an_even_deep_image_is_black_and_nan_is_an_error(tmp_path):
    Image.fromarray(np.full((4, 4), 700, dtype=np.uint16)).save(tmp_path / "even.png")
    assert not np.asarray(open_image(tmp_path / "even.png")).any()
    Image.fromarray(np.array([[0, np.nan], [1, np.inf]], dtype=np.float32)).save(tmp_path / "gaps.tif")
    for read in (open_image, lambda path: check_images([path])):
        with pytest.raises(DataError, match="gaps.tif.*NaN or infinite"):
            read(tmp_path / "gaps.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images_are_put_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))  # transparent, black below
    image.paste((20, 20, 20, 255), (0, 0, 4, 8))  # a dark object
    image.convert(mode).save(tmp_path / "a.png")
    pixels = np.asarray(open_image(tmp_path / "a.png"))
    assert (pixels[:, 4:] == 255).all() and (pixels[:, :4] < 40).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_phone_photos_are_read_and_bombs_are_not(tmp_path):
    Image.new("1", (12_000, 9_000), 1).save(tmp_path / "108 megapixels.png")
    check_images([tmp_path / "108 megapixels.png"])
    assert ImageFiles([tmp_path / "108 megapixels.png"], 8)[np.array([0])].mean() == 255
    Image.new("1", (20_000, LARGEST // 20_000 + 1)).save(tmp_path / "huge.png")
    Image.new("L", (1, 101)).save(tmp_path / "narrow.png")
    for name in ("huge.png: .*pixels", "narrow.png: .*100 times as long as wide"):
        with pytest.raises(DataError, match=name):
            open_image(tmp_path / name.split(":")[0])


def test_all_broken_images_are_one_error(tmp_path):
    draw(tmp_path / "whole.jpg", size=(200, 200))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    paths = [tmp_path / f"{name}.jpg" for name in ("whole", "cut", "text", "empty", "folder", "gone")]
    with pytest.raises(DataError, match="5 images of 6") as error:
        check_images(paths)
    assert all(str(path) in str(error.value) for path in paths[1:]) and "whole" not in str(error.value)
    assert "\n" not in str(error.value)
    for path in paths[1:]:
        with pytest.raises(DataError, match=f"{path.name}: cannot be read as an image"):
            ImageFiles([path], 8)[np.array([0])]
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes())  # mended: it is read again
    check_images(paths[:2])


def test_half_an_emoji_is_content_like_any_other():
    assert content_hash("a \ud83d") != content_hash("a ") and content_hash("a") == content_hash("a")


# ---- class folders ----------------------------------------------------------------------------------------------


@pytest.fixture
def pets(tmp_path):
    for c in ("cat", "dog"):
        for i in range(2):
            draw(tmp_path / "pets" / c / f"{i}.jpg", seed=i)
    return tmp_path / "pets"


def names_of(folder):
    files, names = class_folders(folder, "pets")
    return [f"{name}: {file.relative_to(folder)}" for file, name in zip(files, names, strict=True)]


def test_hidden_and_system_folders_are_left_out_at_any_depth_and_counted(pets):
    whole = names_of(pets)
    places = ["cat/.ipynb_checkpoints", "cat/more/.git/objects", "dog/@eaDir", "__MACOSX/cat", ".ipynb_checkpoints"]
    for place in places:
        draw(pets / place / "0-checkpoint.jpg")
    draw(pets / "cat/._0.jpg")
    with pytest.warns(UserWarning, match="left out") as caught:
        assert names_of(pets) == whole
    for said in ("2 in .ipynb_checkpoints", "1 in .git", "1 in @eaDir", "1 in __MACOSX", "1 hidden"):
        assert said in str(caught[0].message)


@pytest.mark.parametrize("suffix", [".JPG", ".jfif", ".avif", ".webp", ".apng", ".tiff", ".jp2", ".ppm", ".mpo"])
def test_formats_that_pillow_reads_are_read(pets, suffix):
    draw(pets / "cat" / f"x{suffix}")
    assert f"cat: cat/x{suffix}" in names_of(pets) and suffix.lower() in IMAGE_SUFFIXES


def test_heic_is_read_with_the_extra_joining(tmp_path):
    pytest.importorskip("pillow_heif")
    draw(tmp_path / "a.heic", kind="HEIF", size=(64, 64))
    assert ".heic" in IMAGE_SUFFIXES and ImageFiles([tmp_path / "a.heic"], 8)[np.array([0])].std() > 0


def test_images_that_pillow_does_not_read_are_counted_with_what_to_install(pets, monkeypatch):
    what = next(what for what, suffixes in PLUGINS.items() if ".heic" in suffixes)
    monkeypatch.setitem(UNREAD_SUFFIXES, ".heic", what)  # as without the extra
    for i in range(3):
        (pets / "cat" / f"{i}.heic").write_bytes(b"ftypheic")
    (pets / "dog/a.NEF").touch()
    (pets / "dog/notes.txt").touch()
    draw(pets / "loose.jpg")
    with pytest.warns(UserWarning) as caught:
        assert len(names_of(pets)) == 4
    for said in ("3 .heic (pip install pillow-heif, which the extra", "1 .nef", "1 .txt", "1 outside the class"):
        assert said in str(caught[0].message)
    for i in range(2):
        (pets / "cat" / f"{i}.jpg").unlink()
    with pytest.raises(DataError, match="'cat'.*holds no image.*pillow-heif"):
        names_of(pets)


def test_everything_that_cannot_be_used_is_one_error(pets):
    (pets / "cat/x.png").mkdir()
    (pets / "cat/gone.jpg").symlink_to(pets / "nothing.jpg")
    os.mkfifo(pets / "dog/pipe.jpg")
    (pets / "dog/loop.jpg").symlink_to(pets / "dog/loop.jpg")
    with pytest.raises(DataError, match="4 faults") as error:
        names_of(pets)
    for said in (
        "cat/x.png is a folder",
        "cat/gone.jpg is a link to nothing",
        "dog/pipe.jpg is not a regular",
        "loop.jpg",
    ):
        assert said in str(error.value)


def test_files_and_folders_without_permission_are_in_the_error():
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        folder = Path(place) / "pets"
        for name in ("cat/1.jpg", "cat/closed/2.jpg", "dog/3.jpg"):
            draw(folder / name)
        for path in (Path(place), folder, folder / "cat", folder / "dog"):
            path.chmod(0o755)
        (folder / "cat/closed").chmod(0o000)
        (folder / "dog/3.jpg").chmod(0o000)
        user = os.geteuid()
        try:
            if user == 0:  # root may read everything
                os.seteuid(65534)
            with pytest.raises(DataError, match="cat/closed cannot be opened.*dog/3.jpg cannot be opened"):
                names_of(folder)
        finally:
            os.seteuid(user)
            (folder / "cat/closed").chmod(0o755)


def test_linked_folders_are_followed_once(pets, tmp_path):
    draw(tmp_path / "elsewhere/a.jpg")
    draw(tmp_path / "lynxes/b.jpg")
    (pets / "cat/more").symlink_to(tmp_path / "elsewhere")
    (pets / "cat/twice").symlink_to(tmp_path / "elsewhere")
    (pets / "cat/back").symlink_to(pets / "cat")
    (pets / "dog/top").symlink_to(pets)
    (pets / "lynx").symlink_to(tmp_path / "lynxes")
    found = names_of(pets)
    assert "cat: cat/more/a.jpg" in found and "lynx: lynx/b.jpg" in found and len(found) == 6


def test_one_folder_too_high(pets, tmp_path):
    for part in ("train", "test"):
        for c in ("cat", "dog"):
            draw(tmp_path / "split" / part / c / "1.jpg")
    with pytest.raises(DataError, match="'test', 'train'.*one folder too high.*give .*split/train"):
        class_folders(tmp_path / "split", "split")
    (tmp_path / "outer").mkdir()
    pets.rename(tmp_path / "outer/pets")
    with pytest.raises(DataError, match="one class folder, 'pets'.*one folder too high; give .*outer/pets"):
        class_folders(tmp_path / "outer", "outer")
    with pytest.raises(DataError, match="no class folder"):
        class_folders(tmp_path / "outer/pets/cat", "cat")
    with pytest.raises(DataError, match="cannot be read as a folder"):
        class_folders(tmp_path / "nowhere", "nowhere")


def test_all_empty_class_folders_are_named(pets):
    for c in ("horse", "lynx"):
        (pets / c).mkdir()
    with pytest.raises(DataError, match="'horse', 'lynx' in .*holds no image; fill or remove"):
        names_of(pets)


def test_folder_names_are_composed_and_latin_1_bytes_are_an_error(pets):
    for c in ("Café", "Cafe\u0301"):  # as Linux and as macOS write it: one class
        draw(pets / c / "1.jpg")
    assert [n.split(":")[0] for n in names_of(pets)].count("Café") == 2
    latin = os.fsdecode("Bärin".encode("latin-1"))
    draw(pets / latin / "1.jpg")
    draw(pets / "cat" / f"{latin}.jpg")  # a file's name is no class: it is read
    with pytest.raises(DataError, match=r"B\\xe4rin is not UTF-8 \(as Latin-1 it is 'Bärin'\): rename it") as error:
        names_of(pets)
    assert "1 fault below" in str(error.value)
    str(error.value).encode()  # it can be printed
