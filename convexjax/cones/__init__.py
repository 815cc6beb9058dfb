"""The cones. A new one is a file with a subclass of `Cone` and a line here."""

from convexjax.cones.exponential import Exponential
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.power import Power
from convexjax.cones.psd import PSD
from convexjax.cones.second_order import SecondOrder

# Every cone a user may name; tests run over this list.
CONES = (Zero, Nonnegative, SecondOrder, PSD, Exponential, Power)
