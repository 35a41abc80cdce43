"""What CUDA graphs forbid, asked of CuPy itself: on a GPU, or on the device in software of tests/cupy_on_cpu."""

import pytest
from conftest import gpu_problem_once

from npunet.gpu import cuda

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy():
    if problem := gpu_problem_once():
        pytest.skip(problem)
    return pytest.importorskip("cupy")


def test_nothing_is_done_while_a_step_is_recorded(cupy):
    x, y = cupy.arange(4.0), cupy.zeros(4)

    def step():
        cupy.multiply(x, 2, out=y)
        return y.sum()

    captured, total = cuda.capture(step)
    assert y.get().tolist() == [0, 0, 0, 0]
    for value in (1, 5):  # a replay reads what lies there then
        x[...] = value
        captured.launch()
        assert float(total) == 8 * value


def test_an_array_of_a_recorded_step_lies_where_an_earlier_one_was(cupy):
    """So the host must not put numbers there before a replay; gpu/graph.py keeps them elsewhere."""

    def step():
        first = cupy.full((1000,), 7.0)
        place = first.data.ptr
        del first
        return place, cupy.empty((1000,))

    captured, (place, second) = cuda.capture(step)
    assert second.data.ptr == place
    second[...] = 1
    captured.launch()
    assert second.get().tolist() == [7.0] * 1000


@pytest.mark.parametrize("forbidden", [lambda x: x.get(), lambda x: float(x[0, 0]), lambda x: x @ x])
def test_a_recorded_step_neither_waits_nor_calls_cublas(cupy, forbidden):
    x = cupy.zeros((4, 4))
    with pytest.raises(Exception, match="captur|Captur"):
        cuda.capture(lambda: forbidden(x))
    assert (x + 1).get().tolist() == [[1] * 4] * 4  # the device works as before
