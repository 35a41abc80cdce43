"""config.json beside a network's file: what the training run that wrote the file was told.

It stands apart from `run_folder`, which draws: npunet.predict starts without Matplotlib, half a second sooner.
"""

from pathlib import Path

from npunet.errors import InputError
from npunet.files import schema

CONFIG_BESIDE_A_MODEL = {
    "options?": {"scale?": schema.Number(1e-6, 1)},
    "held_out?": [str],
    "fingerprints?": schema.FINGERPRINTS,
    "data?": schema.TRAINING_CONFIG["data?"],
}


def training_config(model: str | Path) -> dict:
    """config.json beside a network's file, as the training run wrote it; {} if there is none.

    Raises InputError for one that is damaged: scores and masks would not be what they seem.
    """
    path = Path(model).parent / "config.json"
    if not path.is_file():
        return {}
    config = schema.read_json(path)
    if found := schema.problem(config, CONFIG_BESIDE_A_MODEL):
        raise InputError(f"{path} is damaged: {found}; take it away, or get the run's own")
    return config


def trained_scale(model: str | Path) -> float:
    """--scale of the training run that wrote this file; 1.0 if nothing is known of it."""
    return training_config(model).get("options", {}).get("scale", 1.0)


def class_values_of(net, config):
    """The mask values of class 0, 1, .. as training read them; None if nobody knows, or there are only two classes."""
    known = config.get("data", {}).get("class_values")
    if known is None and net.n_labels > 2 and net.mask_values and not isinstance(net.mask_values[0], list):
        return net.mask_values
    return known
