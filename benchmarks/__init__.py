"""Benchmarks. npunet comes first, so that NumPy's products take the right kernels: npunet/machine/kernels.py."""

import npunet  # noqa: F401
