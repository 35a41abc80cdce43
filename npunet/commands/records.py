"""What a run remembers of its records while it goes on; all of them are in the folder's .jsonl file."""

MOST = 1000  # steps that are remembered; the axes of a loss curve are some 600 pixels wide


class Records:
    """The records of all evaluations, and those of at most MOST steps.

    A record takes half a kilobyte, and a run may have a million steps. Whenever MOST of them are remembered, every
    second one is forgotten, and from then on one in two, one in four .. of the new ones is remembered. A run that was
    stopped and resumed remembers the same steps as one that was not.

    every: one step in so many is remembered. newest: the last record of a step, whether it is remembered or not.
    """

    def __init__(self, records=()):
        self.steps, self.evaluations, self.every = [], [], 1
        self.seen, self.newest = 0, None
        for record in records:
            self.add(record)

    def add(self, record):
        """Remember one record, {"step": number, ...}; that of an evaluation has "held_out"."""
        if "held_out" in record:
            self.evaluations.append(record)
            return
        self.newest = record
        self.seen += 1
        if self.seen % self.every == 0:
            self.steps.append(record)
        if len(self.steps) == MOST:
            self.steps, self.every = self.steps[1::2], 2 * self.every
