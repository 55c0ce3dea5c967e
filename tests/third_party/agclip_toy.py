"""The adapter of toyarray for agclip, as its author would ship it."""

import toyarray

from agclip import Backend

backend = Backend(name="toyarray", xp=toyarray.namespace)
