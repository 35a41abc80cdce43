"""Trained networks for other programs: `python -m npunet.export` and the packages of bioimage.io.

    __main__.py       the command
    bioimageio.py     the package: rdf.yaml, the ONNX file, test tensors, documentation, cover
    grey_scaling.py   how it says that grey values are scaled
    yaml_text.py      dicts and lists as YAML

The file formats themselves are in npunet.files (docs/formats.md).
"""
