"""The run folder as seen by ranks other than 0, where several processes train together: rank 0 alone writes."""

import contextlib

from npunet.commands.records import Records
from npunet.commands.run_folder import RunFolder
from npunet.files import schema
from npunet.machine import ranks


class Follower(RunFolder):
    """Reads what a run needs to go on, and writes nothing. `records` is what it remembers."""

    @contextlib.contextmanager
    def reserved(self):
        yield self  # rank 0 has the lock

    def create(self, config):
        pass

    @classmethod
    def check_free(cls, path):
        pass

    def go_on_from(self, step):
        records, _ = schema.read_lines(self.metrics, self.record_shape)
        self.records = Records(record for record in records if record["step"] <= step)

    def record(self, **values):
        self.records.add(values)

    def save_network(self, name, net, optimizer, progress):
        pass

    def draw(self, loss, samples=None, probabilities=None):
        pass


def folder_class():
    """The class of this process's run folder: where several train together, rank 0 alone writes."""
    return RunFolder if ranks.rank() == 0 else Follower
