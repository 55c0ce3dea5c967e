"""How many messages a call sends, and of how many bytes: what goes to torch.distributed."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._pytree import tree_leaves


class Counted(CommDebugMode):
    """Counts all-reduces, and the bytes that a rank hands over to them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith(("c10d.allreduce_", "_c10d_functional.all_reduce")):
            self.messages += 1
            # The first argument: what is reduced, a tensor or a list of them.
            self.bytes += sum(
                x.numel() * x.element_size()
                for x in tree_leaves(args[0])
                if isinstance(x, torch.Tensor)
            )
        return super().__torch_dispatch__(func, types, args, kwargs)
