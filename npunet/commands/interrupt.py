"""The progress bar and Ctrl-C of a command that goes on step by step: training, and style transfer."""

import signal
import sys
import threading

from tqdm import tqdm

from npunet.commands.cli import progress_bar
from npunet.machine import ranks


class Interruptible:
    """Steps that Ctrl-C (or SIGTERM) ends after the one that is being done; a second Ctrl-C ends at once.

    Between `listen` and `stop_listening`, `bar` is the progress bar, and `stop_requested` says whether somebody has
    asked for the end.
    """

    stop_requested = False

    def listen(self, total, done):
        """Show the bar, from `done` steps to `total`, and take the signals."""
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():  # Python gives signals to no other thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self.request_stop)
        form = "{n}/{total} |{bar}| {elapsed}<{remaining}{postfix}"
        # of several processes that train together the first alone shows it
        how = dict(bar_format=form, mininterval=0.5, leave=True, disable=ranks.rank() > 0)
        self.bar = progress_bar(total=total, initial=done, unit="step", **how)

    def stop_listening(self):
        """Close the bar, and give the signals back to whoever had them."""
        self.bar.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def request_stop(self, number, frame):
        """What a signal does."""
        if self.stop_requested:  # the second time: now
            raise KeyboardInterrupt
        self.stop_requested = True
        if ranks.rank() == 0:
            tqdm.write("stopping after this step; once more to stop at once", file=sys.stderr)
