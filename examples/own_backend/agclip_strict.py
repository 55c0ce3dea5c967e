"""array-api-strict for agclip: the module is imported when agclip meets one of its arrays."""

import array_api_strict

from agclip import Backend

backend = Backend(
    name="array_api_strict",
    xp=array_api_strict,
    # Its arrays are in host memory: a value can be read without waiting for a device ...
    access=lambda x: "free",
    # ... so it is read, and only what is needed is computed.
    branch=lambda xp, test, yes, no: yes() if test else no(),
)
