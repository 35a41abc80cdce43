"""Everything that others call says its types: parameters and results of all public functions and methods."""

import importlib
import inspect

import pytest

TYPED = """
    unet layers variants geometry tiling weight_map initialization gradient_check figure_1 metrics style.vgg ops loss
    optimizers training augmentation datasets datasets.dataset instances files.images
""".split()


def public(module):
    """(name, function) of every public function and method that the module defines or, as `npunet.ops`, gathers."""
    gathered = getattr(module, "__all__", [])
    for name, item in vars(module).items():
        if name.startswith("_") or (
            name not in gathered if gathered else getattr(item, "__module__", "") != module.__name__
        ):
            continue
        if inspect.isclass(item):
            for method_name, method in vars(item).items():
                if method_name == "__init__" or not method_name.startswith("_"):
                    function = getattr(method, "fget", None) or getattr(method, "__func__", method)
                    if inspect.isfunction(function) and function.__module__ == item.__module__:
                        yield f"{name}.{method_name}", inspect.unwrap(function)
        elif inspect.isfunction(item):
            yield name, inspect.unwrap(item)


@pytest.mark.parametrize("name", TYPED)
def test_public_signatures_are_complete(name):
    module = importlib.import_module(f"npunet.{name}")
    missing, seen = [], 0
    for where, function in public(module):
        seen += 1
        signature = inspect.signature(function)
        without = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is inspect.Parameter.empty and parameter.name not in ("self", "cls")
        ]
        if signature.return_annotation is inspect.Signature.empty:
            without.append("return")
        missing += [f"{where}: {parameter}" for parameter in without]
    assert seen and missing == []
