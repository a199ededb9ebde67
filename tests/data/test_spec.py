import subprocess
import sys

import pytest

from data import source
from data.spec import DataSpec, is_drawn, parse

MEANINGS = {
    "synthetic:textured": "synthetic:textured",
    " Synthetic : 0.40 - (64,64) - 50000 Scenes ": "synthetic:0.4-50000scenes-(64,64)",
    "synthetic:0.4-8scenes-8scenes": "synthetic:0.4-8scenes",
    "synthetic:plain-(32,64)": "synthetic:plain-(32,64)",
    "clevrtex": "clevrtex:full",
    "clevrtex:full-crop-(128,128)": "clevrtex:full-crop-(128,128)",
    " ClevrTex : CAMO - ( 96 , 128 ) - CC - crop_c ": "clevrtex:camo-crop-(96,128)",
    "clevrtex:outd-tiny": "clevrtex:outd-(48,64)",
    "clevrtex:clevr-c-(64,64)-(64,64)": "clevrtex:clevr-crop-(64,64)",
    "clevr-crop-(128,128)": "clevr-crop-(128,128)",
    "clevr-crop-(96,96)": "clevr-crop-(96,96)",
    " CLEVR_with_masks - ( 128 , 128 ) - Crop_C ": "clevr-crop-(128,128)",
    "clevr6-crop-(128,128)": "clevr6-crop-(128,128)",
    "clevr6-huge-cc": "clevr6-crop-(240,320)",
    "concat(clevrtex:full,clevrtex:pbg)-crop-(128,128)": "concat(clevrtex:full,clevrtex:pbg)-crop-(128,128)",
    " Concat ( ClevrTex , clevrtex : PBG,clevr_with_masks )-tiny": "concat(clevrtex:full,clevrtex:pbg,clevr)-(48,64)",
    "concat(clevrtex:vbg)-c": "clevrtex:vbg-crop",
    "concat(clevr,synthetic:0.40-8scenes)-(8,8)": "concat(clevr,synthetic:0.4-8scenes)-(8,8)",
    "concat(synthetic:plain,clevr)": "concat(synthetic:plain,clevr)",
}

MISTAKES = {
    "": "there are clevr, clevr6, clevrtex, ",
    "clevrtext:full": r"did you mean clevrtex or ",
    "clevr:full": "clevr has no variants",
    "clevr-50scenes": "clevr has a fixed number of scenes",
    "clevr-obj": r"part 'obj' .*; clevr takes crop, \(H,W\) such as \(128,128\), or tiny, small, medium, large, huge",
    "clevr-subbg": "clevr takes crop, ",
    "clevr-crop-max6": "part 'max6'",
    "concat(clevrtex:full": r"several data sets are concat\(NAME:VARIANT,NAME:VARIANT\)",
    "concat:full-crop": r"several data sets are concat\(",
    "concat()": "data set '' is unknown",
    "concat(clevrtex:full,)": "data set '' is unknown",
    "concat(clevrtex,clevrtext)": "data set 'clevrtext' is unknown",
    "concat(clevrtex,clevrtex:full)": "has clevrtex:full twice; name each part once",
    "concat(clevrtex,synthetic)-crop": r"part 'crop' .*; concat takes \(H,W\)",
    "concat(clevrtex,clevr)-flip": "concat takes crop, ",
    "concat(clevrtex,clevr)-8scenes": "concat has a fixed number of scenes",
    "clevrtex:nope": "full, pbg, vbg, grassbg, camo, outd, clevr",
    "clevrtex:": "full, pbg",
    "synthetic:full": "plain, textured, or a strength of texture from 0 to 1",
    "synthetic:0.4-0scenes": "0 scenes to train on are too few",
    "synthetic:0.4-8scenes-9scenes": "asked for 8 and for 9 scenes",
    "synthetic-64": "part '64'",
    "clevrtex-50scenes": "clevrtex has a fixed number of scenes; leave out --scenes, or 50scenes",
    "synthetic-crop": "tiny, small",
    "clevrtex-flip": "crop, \\(H,W\\)",
    "clevrtex-[128,128]": "such as \\(128,128\\)",
    "clevrtex-": "''",
    "clevrtex-tiny-(32,32)": "keep one",
    "clevrtex-(0,32)": "above zero",
}


@pytest.mark.parametrize(("text", "canonical"), MEANINGS.items())
def test_canonical_form_is_a_fixed_point(text, canonical):
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(("text", "valid"), MISTAKES.items())
def test_mistakes_are_named_in_one_line_with_what_is_valid(text, valid):
    with pytest.raises(ValueError, match=valid) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_height_comes_first():
    assert parse("clevrtex-(96,128)").size == (96, 128)


def test_most_objects_are_known_without_the_data():
    assert parse("synthetic:plain").max_objects == 5
    assert parse("clevrtex:camo").max_objects == 10


def test_a_spec_of_another_variant_keeps_crop_and_size():
    spec = parse("clevrtex:full-crop").sized((64, 64))
    assert spec.varied("camo") == DataSpec("clevrtex", "camo", True, (64, 64))
    with pytest.raises(ValueError, match="variant 'plain' is unknown"):
        spec.varied("plain")


def test_official_counts():
    assert parse("synthetic").official_counts()["train"] == 4000
    assert parse("clevrtex").official_counts() == {"test": 5000, "val": 5000, "train": 40_000}
    with pytest.raises(ValueError, match=r"--data clevrtex:clevr: how many .*or plan with clevrtex:full, the largest"):
        parse("clevrtex:clevr").official_counts()


def test_several_data_sets_as_one():
    spec = parse("concat(clevrtex:full,clevrtex:pbg,clevr6)-crop-(64,64)")
    assert [str(part) for part in spec.parts] == [
        "clevrtex:full-crop-(64,64)",
        "clevrtex:pbg-crop-(64,64)",
        "clevr6-crop-(64,64)",
    ]
    assert spec.max_objects == 10 and spec.sized((32, 32)).parts[2].size == (32, 32)
    assert parse("concat(clevr6,synthetic)").max_objects == 6
    assert parse("clevr6-crop").parts == (parse("clevr6-crop"),)
    both = parse("concat(clevrtex:full,clevrtex:pbg)")
    assert both.official_counts() == {"test": 7000, "val": 7000, "train": 56_000}
    with pytest.raises(ValueError, match="how many images it has is not known"):
        spec.official_counts()
    with pytest.raises(ValueError, match="variant 'camo' is unknown"):
        both.varied("camo")


def test_another_data_set_at_the_same_crop_and_size():
    spec = parse("clevr-crop-(64,64)")
    assert str(spec.of(source.load("clevrtex"), "outd")) == "clevrtex:outd-crop-(64,64)"
    assert str(spec.of(source.load("synthetic"), "plain")) == "synthetic:plain-(64,64)"


def test_which_data_sets_are_drawn_anew():
    assert is_drawn("concat(synthetic:plain,synthetic:0.4)") and not is_drawn("concat(synthetic,clevr)")
    assert is_drawn("synthetic:plain-(32,32)") and not is_drawn("clevrtex")
    assert not is_drawn("gone:plain")  # of a study made elsewhere: its fingerprint counts


def test_importing_specs_and_listing_names_is_cheap():
    """A command line with a mistake is answered before numpy and pyarrow are there."""
    code = "import sys; from data import source, spec; source.names(); print({'numpy', 'pyarrow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
