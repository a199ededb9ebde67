import subprocess
import sys

import pytest

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
}

MISTAKES = {
    "": "there are clevrtex, ",
    "clevrtext:full": r"did you mean clevrtex\?",
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
    with pytest.raises(ValueError, match=r"--data clevrtex:clevr: how many .*; plan with clevrtex:full, the largest"):
        parse("clevrtex:clevr").official_counts()


def test_which_data_sets_are_drawn_anew():
    assert is_drawn("synthetic:plain-(32,32)") and not is_drawn("clevrtex")
    assert not is_drawn("gone:plain")  # of a study made elsewhere: its fingerprint counts


def test_importing_specs_and_listing_names_is_cheap():
    """A command line with a mistake is answered before numpy and pyarrow are there."""
    code = "import sys; from data import source, spec; source.names(); print({'numpy', 'pyarrow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
