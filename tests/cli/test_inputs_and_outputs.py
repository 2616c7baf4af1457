import os
import sys
import types
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from goctconv.cli._command import CommandError
from goctconv.cli._predict_files import find_photographs, plan_outputs
from goctconv.saliency import read_image
from saliency.pictures import save

KINDS = ["", "_cutout", "_overlay"]


def found(inputs, output):
    photographs, problems = find_photographs([str(item) for item in inputs], output)
    assert not problems
    return [(path.name, stem.as_posix()) for path, stem in photographs]


def planned(inputs, output, kinds=KINDS):
    return plan_outputs(find_photographs([str(item) for item in inputs], output)[0], output, kinds).outputs


def plan(inputs, output, kinds=KINDS, **options):
    return plan_outputs(find_photographs([str(item) for item in inputs], output)[0], output, kinds, **options)


def results(planned):
    return {str(path.name): targets[""].name for path, targets in planned.outputs.items()}


def test_files_folders_and_patterns(photographs, tmp_path):
    output = tmp_path / "maps"
    everything = [("a.png", "a"), ("b.JPG", "b"), ("a.png", "sub/a")]
    assert found([photographs], output) == everything
    assert found([photographs / "sub" / "a.png"], output) == [("a.png", "a")]
    assert found([photographs / "*.png"], output) == [("a.png", "a")]
    assert found([photographs / "**" / "b.*"], output) == [("b.JPG", "b")]
    assert found([photographs / "s*"], output) == [("a.png", "sub/a")]
    assert set(everything) < set(found([photographs / "*"], output))


def test_pipes_are_not_read(photographs, tmp_path):
    os.mkfifo(photographs / "pipe.jpg")
    for source in (photographs, photographs / "*", photographs / "pipe.jpg"):
        found_there, problems = find_photographs([str(source), str(photographs / "a.png")], tmp_path / "maps")
        assert all(photograph.path.name != "pipe.jpg" for photograph in found_there)
        assert [problem for problem in problems if "pipe.jpg: this is a pipe or device" in problem] == problems != []


@pytest.mark.parametrize("kinds", [[""], KINDS])
def test_photographs_of_equal_names_keep_their_suffix(kinds, photographs, tmp_path):
    for name in ("a.jpeg", "b.webp", "b.tif"):
        save(photographs / name, format="PNG")
    found = plan([photographs], tmp_path / "maps", kinds)
    assert results(found) == {
        "a.jpeg": "a.jpeg.png",
        "b.JPG": "b.JPG.png",
        "b.tif": "b.tif.png",
        "b.webp": "b.webp.png",
        "a.png": "a.png",  # that in the subfolder
    }
    assert found.outputs[photographs / "a.png"][""].name == "a.png.png"
    assert [sorted(Path(name).name for name in names.split(" and ")) for names in found.renamed] == [
        ["a.jpeg", "a.png"],
        ["b.JPG", "b.tif", "b.webp"],
    ]
    assert not found.problems


def test_all_suffixes_are_kept_where_that_is_asked_for(photographs, tmp_path):
    found = plan([photographs], tmp_path / "maps", keep_suffix=True)
    targets = {
        target.relative_to(tmp_path / "maps").as_posix() for made in found.outputs.values() for target in made.values()
    }
    assert targets == {
        f"{name}{kind}.png" for name in ("a.png", "b.JPG", "sub/a.png") for kind in ("", "_cutout", "_overlay")
    }
    assert not found.renamed


def test_a_suffix_that_is_kept_may_clash_again(tmp_path):
    for name in ("a.jpg", "a.webp", "a.jpg.png", "c.bmp"):
        save(tmp_path / "x" / name, format="PNG")
    assert results(plan([tmp_path / "x"], tmp_path / "maps", [""])) == {
        "a.jpg": "a.jpg.png",
        "a.webp": "a.webp.png",
        "a.jpg.png": "a.jpg.png.png",
        "c.bmp": "c.png",
    }


UNREAD = {
    ".HEIC": "goctconv[heif]",
    ".dng": "develop",
    ".nef": "develop",
    ".jxl": "pillow-jxl-plugin",
    ".svg": "render",
    ".pdf": "render",
    ".psd": "export",
    ".mp4": "take pictures",
    ".exr": "tones",
}


def test_pictures_that_are_not_read_are_counted(photographs, tmp_path):
    for count, suffix in enumerate(UNREAD, start=1):
        for index in range(count):
            (photographs / "sub" / f"{index}{suffix}").write_bytes(b"x")
    notes = []
    found, problems = find_photographs([str(photographs)], tmp_path / "maps", notes)
    assert len(found) == 3
    for count, (suffix, hint) in enumerate(UNREAD.items(), start=1):
        lines = [line for line in (*problems, *notes) if f"{count} {suffix.lower()} file" in line and hint in line]
        assert len(lines) == 1
        assert (lines[0] in problems) == (suffix in {".HEIC", ".dng", ".nef", ".jxl"})
    assert len(problems) + len(notes) == len(UNREAD)  # nothing of the text file
    with pytest.raises(CommandError, match="render drawings"):
        find_photographs([str(save(tmp_path / "y" / "a.svg", format="PNG").parent)], tmp_path / "maps")


def test_plugins_of_pillow_are_used_where_they_are_installed(photographs, tmp_path, monkeypatch):
    def register():
        Image.register_open("HEIF", HeifFile, lambda prefix: prefix[4:12] == b"ftypheic")
        Image.register_extension("HEIF", ".heic")

    class HeifFile(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._mode, self._size, self.tile = "L", (4, 3), [("raw", (0, 0, 4, 3), 12, ("L", 0, 1))]

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setattr(Image, "EXTENSION", {**Image.registered_extensions()})
    (photographs / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\x80" * 12)
    assert ("c.heic", "c") in found([photographs], tmp_path / "maps")
    assert read_image(photographs / "c.heic").getpixel((0, 0)) == (128, 128, 128)


def test_each_file_once(photographs, tmp_path):
    inputs = [photographs, photographs / "a.png", photographs / "sub", photographs / "*.JPG"]
    assert len(found(inputs, tmp_path / "maps")) == 3


def test_a_name_that_looks_like_a_pattern(tmp_path):
    path = save(tmp_path / "a[1].png")
    assert found([path], tmp_path / "maps") == [("a[1].png", "a[1]")]


@pytest.mark.parametrize("name", ["none.jpg", "none", "*.webp"])
def test_nothing_there(photographs, tmp_path, name):
    with pytest.raises(CommandError, match=r"there is no such file or folder|no file matches this pattern"):
        found([photographs / name], tmp_path)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="there is no image in this folder"):
        found([tmp_path / "empty"], tmp_path / "maps")


def test_the_output_folder_is_not_read(photographs):
    save(photographs / "maps" / "a.png")
    assert len(found([photographs], photographs / "maps")) == 3
    with pytest.raises(CommandError, match="the folder to read and the output folder too"):
        found([photographs], photographs / "sub" / "..")


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_pattern_finds_what_it_can(tmp_path):
    folder = tmp_path / "photographs"
    path = save(folder / "a.png")
    (folder / "empty").mkdir()
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    photographs, problems = find_photographs([str(folder / "*")], tmp_path / "maps")
    assert [photograph.path for photograph in photographs] == [path]
    assert [problem.split(": ")[:2] for problem in problems] == [
        [str(folder / "empty"), "there is no image in this folder or its subfolders"],
        [str(folder / "gone.png"), "there is no such file or folder"],
    ]


@pytest.mark.parametrize("pattern", ["*", "**/*.png", "*/**"])
def test_a_pattern_leaves_the_output_folder_out(tmp_path, pattern):
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "x" / "maps" / "sub" / "a.png")
    save(tmp_path / "x" / "y" / "b.png")
    names = {name for name, _ in found([tmp_path / "x" / pattern], tmp_path / "x" / "maps")}
    assert names == ({"b.png"} if pattern == "*/**" else {"a.png", "b.png"})
    with pytest.raises(CommandError, match="no file matches this pattern"):
        found([tmp_path / "x" / "m*"], tmp_path / "x" / "maps")


def test_a_pattern_of_photographs_in_the_output_folder(tmp_path):
    save(tmp_path / "x" / "a.jpg")
    assert found([tmp_path / "x" / "*.jpg"], tmp_path) == [("a.jpg", "a")]


def test_the_same_folder_twice(photographs, tmp_path):
    assert len(found([photographs, photographs], tmp_path / "maps")) == 3


def test_unreadable_folders_are_named(photographs, tmp_path, monkeypatch):
    scandir = os.scandir

    def deny(path):
        if os.path.basename(path) == "sub":  # noqa: PTH119
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    found_ones, problems = find_photographs([str(photographs)], tmp_path / "maps")
    assert len(found_ones) == 2
    assert problems == [f"{photographs / 'sub'}: this folder cannot be read (Permission denied): check its permissions"]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_to_folders_are_not_followed(tmp_path):
    save(tmp_path / "x" / "a.png")
    save(tmp_path / "y" / "b.png")
    (tmp_path / "x" / "loop").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "other").symlink_to(tmp_path / "y")
    assert found([tmp_path / "x"], tmp_path / "maps") == [("a.png", "a")]


def test_names_of_outputs(photographs, tmp_path):
    output = tmp_path / "maps"
    (outputs,) = planned([photographs / "b.JPG"], output).values()
    assert outputs == {kind: output / f"b{kind}.png" for kind in KINDS}
    assert planned([photographs], output)[photographs / "sub" / "a.png"][""] == output / "sub" / "a.png"


def test_dots_in_names(tmp_path):
    path = save(tmp_path / "a.b.c.png")
    (outputs,) = planned([path], tmp_path / "maps").values()
    assert outputs["_cutout"].name == "a.b.c_cutout.png"


def test_two_photographs_of_one_output(tmp_path):
    first, second = save(tmp_path / "x" / "a.png"), save(tmp_path / "y" / "a.jpg")
    other = save(tmp_path / "z" / "b.jpg")
    second_jpg = save(tmp_path / "x" / "a.jpg")
    assert results(plan([first, second, other], tmp_path / "maps")) == {
        "a.png": "a.png.png",
        "a.jpg": "a.jpg.png",
        "b.jpg": "b.png",
    }
    with pytest.raises(CommandError, match="would both be written to") as caught:
        planned([second_jpg, second], tmp_path / "maps")
    assert str(second_jpg) in str(caught.value)
    assert str(second) in str(caught.value)
    found = plan([second_jpg, second, other], tmp_path / "maps", keep_suffix=True)
    assert list(found.outputs) == [other]  # the rest is done
    assert len(found.problems) == 1
    second_jpg.unlink()
    other.unlink()
    assert len(planned([tmp_path / "x", tmp_path / "y" / ".."], tmp_path / "maps")) == 2


def test_a_cutout_of_the_same_name_as_a_map(tmp_path):
    inputs = [save(tmp_path / "a.jpg"), save(tmp_path / "a_cutout.jpg")]
    assert len(planned(inputs, tmp_path / "maps", [""])) == 2
    found = plan(inputs, tmp_path / "maps")
    assert results(found) == {"a.jpg": "a.jpg.png", "a_cutout.jpg": "a_cutout.jpg.png"}
    assert found.renamed == [f"{inputs[0]} and {inputs[1]}"]
    inputs.insert(1, save(tmp_path / "a.webp"))
    assert plan(inputs, tmp_path / "maps").renamed == [" and ".join(map(str, inputs))]  # once, not for each file


def test_photographs_are_not_overwritten(tmp_path):
    path = save(tmp_path / "a.png")
    with pytest.raises(CommandError, match="would overwrite the photograph"):
        planned([path], tmp_path)
    inputs = [save(tmp_path / "b.jpg"), save(tmp_path / "b_cutout.png")]
    assert results(plan(inputs, tmp_path / "sub" / "..")) == {"b.jpg": "b.jpg.png", "b_cutout.png": "b_cutout.png.png"}
    save(tmp_path / "c.jpg")
    found = plan([path, tmp_path / "c.jpg"], tmp_path, [""])
    assert results(found) == {"c.jpg": "c.png"}
    assert "--keep-suffix" in found.problems[0]
    assert results(plan([path], tmp_path, [""], keep_suffix=True)) == {"a.png": "a.png.png"}
    (tmp_path / "c.jpg").unlink()
    assert len(planned([tmp_path / "b.jpg"], tmp_path, [""])) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_are_seen_through(tmp_path):
    path = save(tmp_path / "x" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert len(found([path, tmp_path / "link"], tmp_path / "maps")) == 1
    with pytest.raises(CommandError, match="would overwrite"):
        planned([path], tmp_path / "link")


def test_case_where_the_system_ignores_it(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(CommandError, match="would both be written to"):
        planned([save(tmp_path / "x" / "A.jpg"), save(tmp_path / "y" / "a.jpg")], tmp_path / "maps")


def test_the_output_is_a_file(photographs):
    with pytest.raises(CommandError, match="this is a file: give a folder"):
        planned([photographs / "a.png"], photographs / "notes.txt")


def test_many_files_are_listed_quickly(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(2000):
        (folder / f"{index:05}.jpg").touch()
    assert list(planned([folder], Path("maps")))[-1].name == "01999.jpg"
