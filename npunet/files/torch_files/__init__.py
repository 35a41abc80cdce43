"""Weights in other people's files: PyTorch's .pth and .safetensors, read and written without PyTorch.

A .pth file is a pickle, a little program that rebuilds Python objects, beside flat blocks of numbers (storages).
Running a stranger's program is how a weights file becomes an attack, so nothing here calls `pickle.load`: `unpickler`
steps through the program itself and knows how to build tensors and plain containers and nothing else.

    tensors.py      storages, the tensors that look into them, PyTorch's names for dtypes
    unpickler.py    the interpreter of the pickle's some forty instructions
    reading.py      the two layouts of .pth (zip archive, older stream); `load_tensors` for every kind of file
    writing.py      `save_torch`: a .pth for `torch.load(weights_only=True)`; files that appear whole or not at all
    safetensors.py  the .safetensors format, both ways

Arrays keep PyTorch's layout (for example (C_out, C_in, kh, kw)); turning axes is the business of the caller.
"""

from npunet.files.torch_files.reading import load_tensors
from npunet.files.torch_files.safetensors import save_safetensors
from npunet.files.torch_files.writing import save_torch

__all__ = ["load_tensors", "save_safetensors", "save_torch"]
