import os

import pytest

from goctconv.saliency import DataSetError, find_pairs


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def relative(folder, data):
    return [(pair.name, *(path.relative_to(folder).as_posix() for path in (pair.image, pair.mask))) for pair in data]


@pytest.mark.parametrize(
    ("images", "masks"),
    [("images", "GT"), ("images", "masks"), ("Image", "mask"), ("imgs", "gt"), ("images", "ground_truth_mask")],
)
def test_two_folders(tmp_path, images, masks):
    folder = touch(tmp_path / "ECSSD", f"{images}/b.jpg", f"{images}/a.JPEG", f"{images}/lone.jpg", f"{images}/.c.jpg")
    touch(folder, f"{masks}/a.png", f"{masks}/b.bmp", f"{masks}/other.png", f"{masks}/Thumbs.db", "readme.txt")
    data = find_pairs(folder)
    assert (data.name, len(data)) == ("ECSSD", 2)
    assert relative(folder, data) == [
        ("a", f"{images}/a.JPEG", f"{masks}/a.png"),
        ("b", f"{images}/b.jpg", f"{masks}/b.bmp"),
    ]
    assert [path.name for path in data.lone_images] == ["lone.jpg"]
    assert [path.name for path in data.lone_masks] == ["other.png"]
    beside = find_pairs(folder / images)
    assert (beside.name, beside.pairs) == ("ECSSD", data.pairs)


def test_subfolders(tmp_path):
    touch(tmp_path, "images/x/1.jpg", "images/y/1.jpg", "masks/x/1.png", "masks/y/1.png")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["x/1", "y/1"]


@pytest.mark.parametrize("prefix", ["Imgs/", "imgs/", ""])
def test_side_by_side(tmp_path, prefix):
    touch(tmp_path / "SOD", f"{prefix}1.jpg", f"{prefix}1.png", f"{prefix}2.jpg", f"{prefix}3.png", f"{prefix}4.txt")
    data = find_pairs(tmp_path / "SOD")
    assert relative(tmp_path / "SOD", data) == [("1", f"{prefix}1.jpg", f"{prefix}1.png")]
    assert [path.name for path in data.lone_images + data.lone_masks] == ["2.jpg", "3.png"]
    assert data.name == "SOD"


def test_side_by_side_counts_what_is_not_read(tmp_path):
    touch(tmp_path / "SOD", "Imgs/1.jpg", "Imgs/1.png", "Imgs/2.heic", "Imgs/3.svg", "Imgs/4.dng")
    with pytest.warns(UserWarning, match="Imgs: ") as caught:
        assert len(find_pairs(tmp_path / "SOD").pairs) == 1
    told = " ".join(str(found.message) for found in caught)
    assert len(caught) == 3
    assert all(suffix in told for suffix in (".heic", ".svg", ".dng"))


def test_duts(tmp_path):
    folder = touch(tmp_path / "DUTS-TE", "DUTS-TE-Image/a.jpg", "DUTS-TE-Mask/a.png", "DUTS-TE-Mask/b.png")
    data = find_pairs(folder)
    assert (data.name, data.pairs[0].name, len(data.lone_masks)) == ("DUTS-TE", "a", 1)
    touch(folder, "DUTS-TR-Image/c.jpg", "DUTS-TR-Mask/c.png")
    with pytest.raises(
        DataSetError, match=r"holds 2 data sets: pass the one that you mean: .*DUTS-TE-Image, .*DUTS-TR-Image"
    ):
        find_pairs(folder)
    train = find_pairs(folder / "DUTS-TR-Image")
    assert (train.name, train.pairs[0].mask.parent.name) == ("DUTS-TR", "DUTS-TR-Mask")


def test_lists(tmp_path):
    touch(tmp_path, "Image/a.jpg", "Image/b c.jpg", "Mask/a.png", "Mask/b c.png", "Image/lone.jpg")
    lines = "Image/a.jpg Mask/a.png\n\nImage/b c.jpg\tMask/b c.png\nImage/lone.jpg Mask/lone.png\nnone.jpg none.png\n"
    (tmp_path / "train.lst").write_text(lines)
    data = find_pairs(tmp_path / "train.lst")
    assert relative(tmp_path, data) == [
        ("Image/a", "Image/a.jpg", "Mask/a.png"),
        ("Image/b c", "Image/b c.jpg", "Mask/b c.png"),
    ]
    assert [path.name for path in data.missing] == ["lone.png", "none.jpg", "none.png"]
    assert data.name == "train"


def test_the_only_list_of_a_folder(tmp_path):
    touch(tmp_path, "x/1.jpg", "y/1.png")
    (tmp_path / "pairs.lst").write_text("x/1.jpg y/1.png")
    assert len(find_pairs(tmp_path)) == 1
    (tmp_path / "more.lst").write_text("x/1.jpg y/1.png")
    with pytest.raises(DataSetError, match="there are 2 lists: pass one"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg\n", r"pairs.lst, line 1: 1 fields, expected 2"),
        ("\na.jpg b.png c.png\n", r"line 2: 3 fields"),
        ("a.jpg b.png\n", r"none of its pairs exist, such as .*a.jpg and .*b.png: names are relative"),
        ("\n \n", "the list is empty"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_broken_lists(tmp_path, text, message):
    path = tmp_path / "pairs.lst"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataSetError, match=message):
        find_pairs(path)


def test_what_is_not_found(tmp_path):
    with pytest.raises(DataSetError, match="no such folder or list"):
        find_pairs(tmp_path / "none")
    touch(tmp_path / "strange", "left/a.jpg", "right/a.png")
    with pytest.raises(
        DataSetError, match=r"no known layout; it holds left, right. Tried:\n  images/ \+ GT/"
    ) as caught:
        find_pairs(str(tmp_path / "strange"))
    assert all(name in str(caught.value) for name in ("Imgs/", "DUTS-TE-Image/", "NAME.lst", "masks/"))
    touch(tmp_path / "apart", "images/a.jpg", "masks/b.png")
    with pytest.raises(DataSetError, match=r"\(like a\) has the name of one of .* \(like b\)"):
        find_pairs(tmp_path / "apart")
    touch(tmp_path / "twice", "images/a.jpg", "images/a.png", "masks/a.png")
    with pytest.raises(DataSetError, match=r"a.jpg and .*a.png have the same name"):
        find_pairs(tmp_path / "twice")
    touch(tmp_path / "bare", "images/a.txt", "masks/a.png")
    with pytest.raises(DataSetError, match=r"images: there is no image"):
        find_pairs(tmp_path / "bare")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_pipes_are_not_taken(tmp_path):
    touch(tmp_path, "images/a.jpg", "GT/a.png", "GT/b.png")
    os.mkfifo(tmp_path / "images" / "b.jpg")
    data = find_pairs(tmp_path)
    assert [pair.name for pair in data] == ["a"]
    assert data.lone_masks == (tmp_path / "GT" / "b.png",)


def test_a_list_may_begin_with_a_byte_order_mark_and_names_each_photograph_once(tmp_path):
    for name in ("a/1.jpg", "a/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = tmp_path / "pairs.lst"
    listed.write_text("a/1.jpg a/1.png\n", encoding="utf-8-sig")
    assert [pair.name for pair in find_pairs(listed)] == ["a/1"]
    listed.write_text("a/1.jpg a/1.png\na/1.jpg a/1.png\n")
    with pytest.raises(DataSetError, match="a/1 stands on two lines"):
        find_pairs(listed)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_equal_names_are_left_out_and_the_rest_is_paired(folder, tmp_path):
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        for name in "abc":
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / f"{name}.{suffix}").touch()
    for name in "ab":
        (tmp_path / folder / f"{name}.webp").touch()
    with pytest.warns(UserWarning, match=r"a\.webp; .*b\.webp have the same name but"):
        found = find_pairs(tmp_path)
    assert [pair.name for pair in found] == ["c"]
    assert len(found.lone_images) + len(found.lone_masks) == 2
    (tmp_path / folder / "c.webp").touch()
    with pytest.raises(DataSetError, match="have the same name but for the suffix"):
        find_pairs(tmp_path)


def test_pictures_that_are_not_read_are_counted_by_kind(tmp_path):
    folder = touch(tmp_path, "images/a.jpg", "images/b.dng", "images/c.DNG", "images/d.txt", "masks/a.png")
    with pytest.warns(UserWarning, match=r"images: 2 \.dng files are not read: develop raw photographs") as caught:
        assert [pair.name for pair in find_pairs(folder)] == ["a"]
    assert len(caught) == 1
