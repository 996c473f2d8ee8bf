"""The base of all classes with declared fields: msgspec's `Struct`, which is made forty times faster than a dataclass.

For each dataclass, the standard library writes and compiles source code. That takes more than a millisecond; forty dataclasses
would take a tenth of the time until the first request.
"""

from msgspec import Struct, field
from msgspec.structs import asdict, astuple, replace

__all__ = ["Struct", "asdict", "astuple", "field", "replace"]
