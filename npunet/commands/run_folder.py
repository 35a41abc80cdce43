"""The folder of a training run, and what is in it.

config.json      the command's options and the network's configuration
metrics.jsonl    one JSON object a line: {"step", "loss", "gradient_norm", "learning_rate", "seconds"}, and now and
                 then {"step", "held_out": scores}
newest.npz       the network and all that training needs to go on to the same bits
best.npz         the network with the highest held-out mean IoU
loss.png         the curve            panel.png        held-out images, truth, probability, error
"""

import contextlib
import json
import sys
from pathlib import Path

from npunet.commands import run_pictures
from npunet.commands.records import Records
from npunet.errors import InputError
from npunet.files import checkpoint, schema
from npunet.files.whole_file import reserved, write_json, write_text

OF_TRAINING = ("options", "network", "held_out")  # what npunet.train writes into config.json and needs to go on


class RunFolder:
    """Files of one run. `records` is what it remembers of metrics.jsonl."""

    record_shape = schema.RECORD

    def __init__(self, path):
        self.path = Path(path)
        self.records = Records()

    @contextlib.contextmanager
    def reserved(self):
        """Within, the folder is there and no other run may work in it: the system's lock on the folder itself.

        What killed runs left half written is removed first. Raises InputError if another run has the lock, or the
        folder cannot be made.
        """
        with reserved(self.path, "--out"):
            yield self

    def create(self, config):
        """Write config.json of a new run. Raises InputError if a run is there already or it cannot be written."""
        self.check_free(self.path)
        with self.writing():
            write_json(self.path / "config.json", config)

    @classmethod
    def check_free(cls, path):
        """Raises InputError if the folder holds a run. With config.json alone it does not: that run made no step."""
        if not str(path):
            raise InputError("--out is empty; give a folder (. is the current one)")
        run = cls(path)
        if (run.path / "newest.npz").exists():
            raise InputError(
                f"{path} holds a run already; give another --out, delete it, or go on with --resume {path}"
            )
        if (run.path / "config.json").exists() and run.metrics.exists():
            raise InputError(
                f"{path} holds a run without a checkpoint, running or stopped before its first; give another --out, "
                f"or delete it"
            )

    @classmethod
    def reopen(cls, path, parts=(), option=""):
        """The folder of an earlier run and its configuration.

        Raises InputError, which names the option that asked for it, if there is none, or it lacks one of the `parts`.
        """
        run, named = cls(path), f"{option} {path}".strip()
        try:
            config = schema.read_json(run.path / "config.json")
        except InputError as error:
            raise InputError(f"{named}: {error}; expected the --out folder of an earlier run") from None
        if parts and not (isinstance(config, dict) and config.keys() >= set(parts)):
            raise InputError(f"{named}: that is no run of npunet.train; expected a config.json with {', '.join(parts)}")
        if parts and (found := schema.problem(config, schema.TRAINING_CONFIG)):
            raise InputError(f"{named}: config.json is damaged: {found}")
        return run, config

    def go_on_from(self, step):
        """Forget the records of steps after the checkpoint, which will be done again."""
        records, damaged = schema.read_lines(self.metrics, self.record_shape)
        if damaged:  # the line that was being written when the run was killed, or worse
            print(f"{self.metrics}: {damaged} damaged line{'s' * (damaged > 1)} left out", file=sys.stderr)
        records = [record for record in records if record["step"] <= step]
        self.records = Records(records)
        with self.writing():
            write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in records))

    @contextlib.contextmanager
    def writing(self):
        """Within, an error of the file system is one line."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path}/ cannot be written ({error.strerror or error}); check the folder and the space left"
            ) from None

    @property
    def metrics(self):
        return self.path / "metrics.jsonl"

    def record(self, **values):
        """Add one line to metrics.jsonl."""
        self.records.add(values)
        with open(self.metrics, "a") as file:
            file.write(json.dumps(values) + "\n")

    def save_network(self, name, net, optimizer, progress):
        """Write a checkpoint: network, optimiser, dropout's random state, and `progress` (a dict for JSON)."""
        arrays, optimizer_steps = optimizer.state()
        entries = checkpoint.network_entries(net) | {f"optimizer/{key}": value for key, value in arrays.items()}
        checkpoint.save(
            self.path / name,
            entries,
            random_state=net.rng.bit_generator.state,
            optimizer_steps=optimizer_steps,
            progress=progress,
        )

    def newest(self, network):
        """The entries of newest.npz, to be read before a network of this configuration is built.

        Raises InputError if there is no such file, or it has fewer weights than the network: config.json may come from
        a stranger, and ask for more than the memory holds.
        """
        path = self.path / "newest.npz"
        if not path.exists():
            raise InputError(
                f"{path} does not exist: the run stopped before its first checkpoint; start it again with another --out"
            )
        entries = checkpoint.load(path)
        checkpoint.check_weights(network, entries, self.path / "config.json")
        return entries

    def restore(self, entries, net, optimizer):
        """Put the state that `newest` has read into network and optimiser; returns `progress`."""
        path, header = self.path / "newest.npz", entries["header"]
        if header["network"] != net.config or "progress" not in header:
            raise InputError(
                f"{path} does not belong to the network in {self.path / 'config.json'}; it cannot be resumed"
            )
        checkpoint.fill_network(net, entries, path)
        try:
            self._restore_state(net, optimizer, entries)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} holds no state of this optimiser ({reason}); it cannot be resumed") from None
        return header["progress"]

    @staticmethod
    def _restore_state(net, optimizer, entries):
        header = entries["header"]
        state = {key.removeprefix("optimizer/"): v for key, v in entries.items() if key.startswith("optimizer/")}
        for slot, arrays in optimizer.arrays.items():
            for name, array in arrays.items():
                if state[f"{slot}/{name}"].shape != array.shape:
                    raise ValueError(f"{slot}/{name} has shape {state[f'{slot}/{name}'].shape}, not {array.shape}")
        for where, shape in (("optimizer_steps", schema.STEP), ("progress", schema.PROGRESS)):
            if found := schema.problem(header[where], shape, where):
                raise ValueError(found)
        optimizer.restore(state, header["optimizer_steps"])
        net.rng.bit_generator.state = header["random_state"]

    def draw(self, loss, samples=None, probabilities=None):
        """Draw the curve of the loss, one of training.LOSSES, and the panel if there are predictions."""
        if any("loss" in record for record in self.records.steps):
            run_pictures.loss_curve(self.path / "loss.png", self.records, loss)
        if samples:
            run_pictures.prediction_panel(self.path / "panel.png", samples, probabilities)
