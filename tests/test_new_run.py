"""What a new run of npunet.train takes where nobody says: share held out, depth, tile, steps of an epoch."""

import json
import types

import pytest

from npunet import InputError, UNet, datasets, train
from npunet.commands.session import Session
from npunet.files import images
from npunet.training import NotFinite


def test_a_sixth_is_held_out_and_scored_at_the_right_steps(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number, sample in enumerate(datasets.synthetic(n_sections=12, size=48, seed=2).samples):
        images.write_image(tmp_path / "images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "masks" / f"{number}.png", sample.labels)
    words = "--base-channels 2 --tile 36 --depth 1 --threads 1 --steps 5 --evaluate-every 2".split()
    train.main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), *words])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["held_out"] == ["10", "11"] == list(config["fingerprints"]["held_out"])
    assert list(config["fingerprints"]["training"]) == [str(number) for number in range(10)]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "held_out" in record] == [2, 4, 5]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4, 5]
    seconds = [record["seconds"] for record in records if "loss" in record]
    assert seconds == [round(one, 4) for one in seconds] and 0 < sum(seconds) < 100


def test_depth_follows_small_images_unless_it_is_given():
    dataset = datasets.synthetic(1, 60)

    def depth(given, loaded=None, **options):
        options = {"variant": "paper", "depth": 4, "tile": 572} | options
        train.follow_images(options, given, dataset, loaded)
        return options["depth"]

    assert depth({}) == 2  # the paper's four poolings lose 184 pixels, two lose 40
    assert depth({"depth": 4}) == depth({}, loaded=True) == depth({}, variant="padded") == 4


def folder_of(names, path, rng):
    """Images of 40 pixels and binary masks."""
    for name in names:
        images.write_image(path / f"images/{name}.png", rng.random((40, 40)))
        images.write_image(path / f"masks/{name}.png", rng.random((40, 40)) > 0.5)
    return dict(data=str(path), out=str(path / "run"), base_channels=1, depth=1, threads=1)


def test_an_epoch_shows_each_training_image_once(tmp_path, rng):
    given = folder_of("abcdef", tmp_path, rng) | {"held_out": 1, "epochs": 3, "batch": 2}
    with train.new_run(given) as session:
        assert session.recipe.steps == 9  # three batches of two hold five images


@pytest.mark.parametrize("more, tile", [({}, 56), ({"tile": 60}, 60), ({"variant": "padded"}, 40)])
def test_without_tile_a_new_run_follows_its_images(more, tile, tmp_path, rng):
    """The convolutions of a network of depth 1 lose 4 + 2 * 4 + 4 pixels of the tile."""
    given = folder_of("abc", tmp_path, rng) | {"steps": 2}
    with train.new_run(given | more) as session:
        assert session.options["tile"] == session.recipe.tile == tile


def test_options_beside_load_are_those_of_the_file(tmp_path):
    UNet(1, 2, 3, 2).save(tmp_path / "net.npz")
    given = {"load": str(tmp_path / "net.npz"), "data": "synthetic", "out": str(tmp_path / "run")}
    for same in ({}, {"depth": 2}, {"base_channels": 3}):
        options, loaded = train.new_options(given | same)
        assert options["depth"] == loaded.depth == 2 and options["base_channels"] == 3
    with pytest.raises(InputError, match="--base-channels 4 beside --load .*, whose network has 3; leave it out"):
        train.new_options(given | {"base_channels": 4})


def test_steps_are_counted_from_one_where_a_loss_is_not_finite():
    def fails(*batch):
        raise NotFinite("the loss is nan")

    session, told = types.SimpleNamespace(recorded=fails, stop_at=lambda *what: told.append(what)), []
    Session.step(session, 4, ())
    assert [(step, str(error)) for step, error in told] == [(5, "the loss is nan")]
