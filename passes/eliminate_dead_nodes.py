"""Remove what nobody reads.

    let y = f(x) in z  =  z        where y does not occur in z and f has no effect of its own

Exact always.
"""

from repcompiler.pattern import Unread
from repcompiler.rewriter import rewrite


@rewrite(Unread())
def eliminate_dead_nodes() -> None:
    return None
