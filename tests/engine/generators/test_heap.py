"""The heap of a generator's process: what lives long is exempt from collection, later cycles are still freed."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from engine.generators.heap import COLLECT_AFTER, settle_heap

class Node:
    pass

kept = [Node() for _ in range(1000)]
settle_heap()
assert gc.get_freeze_count() > 1000
assert not any(each is kept[0] for each in gc.get_objects()), "frozen objects are not visited"

node = Node()
node.own = node  # only the collector can free it
gone = weakref.ref(node)
del node
few = [Node() for _ in range(COLLECT_AFTER // 10)]
assert gone() is not None, "collected too early"
many = [Node() for _ in range(2 * COLLECT_AFTER)]
assert gone() is None, "never collected"
print("held")
"""


def test_a_settled_heap_is_not_visited_and_later_cycles_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout == "held\n", done.stderr
