"""The site's interactive pictures compute what npunet computes (docs/site); node runs them without a browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npunet import augmentation, geometry, ops, weight_map

SITE = Path(__file__).resolve().parents[1] / "docs" / "site"
PICTURES = SITE / "_static" / "pictures"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed; it runs the site's JavaScript")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """The folder with npunet's numbers, as the site has them."""
    sys.path.insert(0, str(SITE))
    import numbers_of_pictures

    folder = tmp_path_factory.mktemp("numbers")
    numbers_of_pictures.write_all(folder)
    return folder


def run(numbers, name, program):
    """What `program` prints as JSON; it sees N, the numbers and functions of picture `name`."""
    scripts = [numbers / f"{name}.js", PICTURES / "common.js", PICTURES / f"{name}.js"]
    text = "globalThis.window = globalThis;\n" + "\n".join(path.read_text() for path in scripts)
    text += f"\nconst N = NPUNET, numbers = N.numbers.{name}, compute = N.compute.{name};\n"
    text += f"console.log(JSON.stringify((() => {{ {program} }})()));"
    done = subprocess.run([NODE, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_number_of_a_convolution_and_its_gradients(numbers):
    program = """
    const all = (shape, terms) => shape.map((_, i) => shape[0].map((_, j) => compute.value(terms(i, j), numbers)));
    return {y: all(numbers.y, compute.forward), dx: all(numbers.dx, compute.dx),
            dweight: all(numbers.dweight, compute.dweight), given: numbers};
    """
    found = run(numbers, "convolution", program)
    x, weight, dy = (np.array(found["given"][name], float) for name in ("x", "weight", "dy"))
    y, ctx = ops.conv2d(x[None, ..., None], weight[..., None, None])
    dx, dweight, _ = ops.conv2d_backward(dy[None, ..., None], ctx)
    np.testing.assert_allclose(found["y"], y[0, ..., 0], atol=1e-12)
    np.testing.assert_allclose(found["dx"], dx[0, ..., 0], atol=1e-12)
    np.testing.assert_allclose(found["dweight"], dweight[..., 0, 0], atol=1e-12)


def test_sizes_of_any_tile(numbers):
    found = run(numbers, "fig1", "return [...Array(900).keys()].map(tile => (compute.sizes(tile) || {}).output || 0);")
    expected = [geometry.output_size(tile) if geometry.is_valid_size(tile) else 0 for tile in range(900)]
    assert found == expected and found[572] == 388


def test_the_receptive_field(numbers):
    program = (
        "return [...Array(16).keys()].map(p => { const [low, high] = compute.sees(p)[0]; return high - low + 1; });"
    )
    sides = run(numbers, "fig1", program)
    assert (min(sides), max(sides)) == tuple(geometry.receptive_field())


def test_weights_of_eq_2(numbers):
    program = """
    return numbers.checks.map(({w0, sigma, gap}) => {
      const cells = compute.cells(gap);
      const weights = compute.weights(cells, compute.distances(cells), w0, sigma);
      return {w0, sigma, gap, cells: Array.from(cells), weights: Array.from(weights)};
    });
    """
    for found in run(numbers, "weightmap", program):
        cells = np.array(found["cells"]).reshape(72, 108)
        expected = weight_map.weight_map(cells, found["w0"], found["sigma"])
        np.testing.assert_allclose(np.reshape(found["weights"], cells.shape), expected, rtol=1e-5)


def test_the_displacement_field(numbers):
    found = run(
        numbers, "deformation", "return [numbers.check.vectors, compute.field(numbers.check.vectors, numbers.basis)];"
    )
    vectors, field = map(np.array, found)
    np.testing.assert_allclose(field, augmentation.displacement_field(vectors, 128), atol=2e-4)


def test_counts_at_every_threshold(numbers):
    program = """
    const p = N.bytes(numbers.probability.grey), truth = N.bytes(numbers.cells), width = numbers.probability.width;
    return [numbers.rows.map(row => {
      const {found, count} = compute.components(Uint8Array.from(p, v => v > row.threshold * 255 ? 1 : 0), width);
      const e = compute.errors(found, count, truth, truth.reduce((a, b) => Math.max(a, b), 0));
      return [e.true, e.found, e.merged, e.split, e.missed, e.invented];
    }), numbers.check];
    """
    found, expected = run(numbers, "threshold", program)
    assert found == expected and len({tuple(row) for row in found}) > 5


def test_the_network_in_the_page_predicts_as_npunet_does(numbers):
    program = """
    const grey = Float32Array.from(N.bytes(numbers.image.grey), g => g / 255), net = compute.load(numbers);
    const whole = compute.forward(net, grey, new Set()), cut = compute.forward(net, grey, new Set([0, 1, 2]));
    const rows = numbers.check.map((row, i) => row.map((_, j) => whole.data[8 * i * whole.side + 8 * j]));
    const changed = Math.max(...cut.data.map((v, i) => Math.abs(v - whole.data[i])));
    return {rows, check: numbers.check, side: whole.side, changed};
    """
    found = run(numbers, "skips", program)
    np.testing.assert_allclose(found["rows"], found["check"], atol=2e-4)
    assert found["side"] == geometry.output_size(188, 3) and found["changed"] > 0.1


def test_links_between_pages_of_the_course_are_kept(monkeypatch):
    """The glossary of every lesson lost its link once: `linked` leaves out what has no page."""
    monkeypatch.syspath_prepend(str(SITE))
    import build

    for target, page in {
        "glossary.md": "glossary.html",
        "build/README.md": "build.html",
        "02_convolution.ipynb": "02_convolution.html",
        "README.md": "index.html",
        "../docs/style.md": "../docs/style.html",
    }.items():
        text = build.linked(f"See [it]({target}).", "lessons/01_a_tour.ipynb", "lessons/01_a_tour")
        assert page in text and "href" in text, f"{target}: {text}"
