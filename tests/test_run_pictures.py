"""What the pictures of a run show: the arrays, colours and words that are handed to Matplotlib."""

import math

import numpy as np
import pytest

from npunet.commands import run_pictures
from npunet.commands.cell_pictures import cells_panel
from npunet.commands.records import Records
from npunet.datasets import Sample


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(run_pictures, "save", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize("n_classes", [2, 3])
def test_panel_shows_image_truth_probability_and_error(drawn, n_classes):
    rng = np.random.default_rng(n_classes)
    samples, probabilities = [], []
    for number in range(4):
        labels = rng.integers(0, n_classes, (6, 8))
        samples.append(Sample(f"{number}", rng.random((6, 8, 1)), labels, labels.astype(np.int32)))
        p = rng.random((6, 8, n_classes))
        probabilities.append(p / p.sum(axis=2, keepdims=True))
    run_pictures.prediction_panel("panel.png", samples, probabilities, rows=3)
    (figure,) = drawn
    assert len(figure.axes) == 12 and not any(axes.axison for axes in figure.axes)
    grid = np.array(figure.axes).reshape(3, 4)
    for row, sample, p in zip(grid, samples, probabilities):
        found = p.argmax(axis=2)
        shown = [axes.images[0] for axes in row]
        wanted = [sample.image[..., 0], sample.labels, p[..., 1] if n_classes == 2 else found]
        for picture, array, top in zip(shown, wanted, (1, n_classes - 1, 1 if n_classes == 2 else n_classes - 1)):
            np.testing.assert_array_equal(picture.get_array(), array)
            assert picture.get_clim() == (0, top)
        names = ["gray"] * 3 if n_classes == 2 else ["gray", "viridis", "viridis"]
        assert [picture.get_cmap().name for picture in shown[:3]] == names
        np.testing.assert_array_equal(shown[3].get_array(), run_pictures.error_picture(sample, found))
        wrong = (found != sample.labels).mean()
        assert [axes.get_title() for axes in row[:2]] == [sample.name, "truth"]
        assert row[2].get_title() == ("probability of class 1" if n_classes == 2 else "most likely class")
        assert row[3].get_title() == f"error: {wrong:.1%} (red missed, blue invented)"


def test_curves_show_each_loss_their_median_and_the_scores(drawn):
    losses = np.random.default_rng(0).uniform(0.1, 1, 60)
    records = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    for step, score, unseen in ((20, 0.5, 0.7), (40, None, None), (60, 0.75, 0.6)):
        scores = {"pixel_accuracy": 0.9, "mean_iou": score}
        records.append({"step": step, "held_out": scores, "held_out_loss": unseen})
    run_pictures.loss_curve("loss.png", records, "cross-entropy+dice")
    left, right = drawn[0].axes
    lines = {line.get_label(): line.get_xydata() for line in [*left.lines, *right.lines]}
    np.testing.assert_array_equal(lines["loss of each step"], np.column_stack([range(1, 61), losses]))
    median = [[step, np.median(losses[step - 3 : step])] for step in range(3, 61)]
    np.testing.assert_allclose(lines["median of 3 steps"], median)
    np.testing.assert_array_equal(lines["held-out, unweighted"], [[20, 0.7], [60, 0.6]])
    np.testing.assert_array_equal(lines["held-out mean iou"], [[20, 0.5], [40, np.nan], [60, 0.75]])
    np.testing.assert_array_equal(lines["held-out pixel accuracy"], [[20, 0.9], [40, 0.9], [60, 0.9]])
    assert (left.get_yscale(), left.get_ylabel()) == ("log", "weighted cross-entropy (Eq. 1) + Dice loss")
    assert (left.get_xlabel(), right.get_ylim()) == ("step", (0, 1))
    shown = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert shown == [*(line.get_label() for line in left.lines), *(line.get_label() for line in right.lines)]


def test_a_long_run_remembers_some_of_its_steps_and_all_evaluations(drawn):
    """A million records would be half a gigabyte, and the medians of 5 % of them 400 GB."""
    losses = np.random.default_rng(1).uniform(0.1, 1, 9001)
    records = Records()
    for step, loss in enumerate(losses, start=1):
        records.add({"step": step, "loss": loss})
        if step % 500 == 0:
            records.add({"step": step, "held_out": {"pixel_accuracy": 0.9, "mean_iou": 0.5}})
        assert len(records.steps) < 1000 and records.newest["step"] == step
    assert records.every == 16 and [record["step"] for record in records.steps] == list(range(16, 9001, 16))
    assert [record["step"] for record in records.evaluations] == list(range(500, 9001, 500))
    every = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    assert Records(every).steps == records.steps  # a run that was resumed
    run_pictures.loss_curve("loss.png", every)
    lines = {line.get_label(): line.get_xydata() for line in drawn[0].axes[0].lines}
    kept = losses[15::16]
    np.testing.assert_array_equal(lines["loss of one step in 16"], np.column_stack([range(16, 9001, 16), kept]))
    median = [[16 * last, np.median(kept[last - 28 : last])] for last in range(28, 563)]
    np.testing.assert_allclose(lines["median of 448 steps"], median)


def test_a_log_with_the_same_step_again_and_again_is_remembered_in_part():
    records = Records({"step": 0, "loss": 1.0} for _ in range(5000))
    assert 0 < len(records.steps) < 1000


def test_marks_of_the_loss_axis_are_1_2_5(drawn):
    run_pictures.loss_curve("loss.png", [{"step": step, "loss": 10.0**-step} for step in (1, 2, 3)], "cross-entropy")
    axis = drawn[0].axes[0].yaxis
    marks = axis.get_major_locator().tick_values(1e-3, 0.1)
    shown = [axis.get_major_formatter()(mark, None) for mark in marks if 0.9e-3 < mark < 0.11]
    assert shown == ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]
    assert axis.get_minor_formatter()(0.03, None) == ""


def test_three_pictures_of_cells_side_by_side(drawn):
    cells = np.zeros((20, 20), np.int32)
    cells[2:8, 3:9], cells[11:17, 10:18] = 1, 2
    sample = Sample("a", np.random.default_rng(0).random((20, 20, 1)), (cells > 0).astype(int), cells)
    cells_panel("cells.png", sample, cells)
    # three squares of 400 pixels, and their titles
    assert np.round(drawn[0].get_size_inches() * 100).tolist() == [1200, 460] and len(drawn[0].axes) == 3
    assert [axes.axison for axes in drawn[0].axes] == [False] * 3


def test_a_picture_of_a_figure_shows_0_black_and_1_white(monkeypatch):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    run_pictures.show_image(axes, np.linspace(-0.5, 1.5, 9).reshape(3, 3, 1), "beyond both")
    assert axes.images[0].get_clim() == (0, 1)
    expected = [[0, 0, 0], [0.25, 0.5, 0.75], [1, 1, 1]]
    np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
    channels = np.random.default_rng(0).random((3, 3, 5))
    for count, shown in ((1, 0), (2, 0), (3, slice(3)), (5, slice(3))):  # the first alone, or three as colours
        run_pictures.show_image(axes, channels[..., :count], "")
        np.testing.assert_array_equal(axes.images[-1].get_array(), channels[..., shown])


def test_the_loss_curve_of_a_run_has_a_legend_without_a_frame(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(run_pictures, "save", lambda figure, path: figures.append(figure))
    records = Records([{"step": step, "loss": 1 / step} for step in (1, 2)])
    run_pictures.loss_curve(tmp_path / "losses.png", records)
    (legend,) = figures[0].legends
    assert not legend.get_frame_on()
    assert [text.get_text() for text in legend.texts] == ["loss of each step", "median of 1 steps"]
    scored = [{"step": 1, "held_out_loss": 0.5, "held_out": {"pixel_accuracy": 0.75, "mean_iou": None}}]
    scored += [{"step": 2, "held_out_loss": 0.25, "held_out": {"pixel_accuracy": 0.5, "mean_iou": 0.125}}]
    run_pictures.loss_curve(tmp_path / "losses.png", Records([*records.steps, *scored]))
    left, right = figures[1].axes
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (left, right) for line in axes.lines}
    assert drawn["held-out, unweighted"] == [[1, 0.5], [2, 0.25]]
    assert drawn["held-out pixel accuracy"] == [[1, 0.75], [2, 0.5]]
    assert drawn["held-out mean iou"][1] == [2, 0.125] and math.isnan(drawn["held-out mean iou"][0][1])
    assert [text.get_text() for text in figures[1].legends[0].texts][2:] == list(drawn)[2:]
