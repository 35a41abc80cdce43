"""What a lesson does in a page of the site only, where Python runs in the browser and takes ten times as long."""

import time
from collections.abc import Iterable, Iterator

from IPython.display import Pretty, display

from npunet.machine.threads import can_start_threads


def counted(items: Iterable) -> Iterator:
    """The items, one by one. In a page a line under the cell counts those that are done; elsewhere nothing is shown."""
    items = list(items)
    if can_start_threads():
        yield from items
        return
    start, line = time.perf_counter(), display(Pretty(f"0 of {len(items)}"), display_id=True)
    for done, item in enumerate(items, start=1):
        yield item
        line.update(Pretty(f"{done} of {len(items)}, {time.perf_counter() - start:.0f} s"))
