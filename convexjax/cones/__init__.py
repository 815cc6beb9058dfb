"""The cones. A new one is a file with a subclass of `Cone` and a line here; one of a user's own is such a subclass
anywhere, made a pytree by `pytree`, its sizes fields that are `static()`. All solvers that take cones take it."""

from convexjax.cones.base import Cone
from convexjax.cones.exponential import Exponential
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.power import Power
from convexjax.cones.psd import PSD
from convexjax.cones.second_order import SecondOrder
from convexjax.pytrees import pytree, static

# Every cone a user may name; tests run over this list.
CONES = (Zero, Nonnegative, SecondOrder, PSD, Exponential, Power)

__all__ = [
    "CONES",
    "PSD",
    "Cone",
    "Exponential",
    "Nonnegative",
    "Power",
    "SecondOrder",
    "Zero",
    "pytree",
    "static",
]
