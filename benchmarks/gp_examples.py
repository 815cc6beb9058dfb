"""Documented examples of geometric programming, as models of convexjax and of CVXPY.

Each function makes one model; `EXAMPLES` has them all by name with the published optimum. Sources: "tutorial" is Boyd,
Kim, Vandenberghe and Hassibi, "A tutorial on geometric programming", Optim. Eng. 2007; others are the documentation of
gpkit and of CVXPY.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from convexjax import gp


@dataclass(frozen=True)
class Example:
    """A model, the same in CVXPY, and the optimum, published or in closed form, if there is one."""

    model: Callable
    cvxpy: Callable  # of the module cvxpy
    optimum: float = np.nan


# ----------------------------------------------------------------------------- a box


def box():
    """The largest box by wall and floor area, with bounds on its shape. CVXPY's documentation; tutorial, 2.4."""
    h, w, d = gp.variables("h w d", units="m")
    shape = [h / w >= 0.5, h / w <= 2, d / w >= 0.5, d / w <= 2]
    return gp.maximize(h * w * d, [2 * (h * w + h * d) <= 100, w * d <= 10, *shape])


def box_cvxpy(cp):
    """The same."""
    h, w, d = cp.Variable(pos=True), cp.Variable(pos=True), cp.Variable(pos=True)
    shape = [h / w >= 0.5, h / w <= 2, d / w >= 0.5, d / w <= 2]
    return cp.Problem(cp.Maximize(h * w * d), [2 * (h * w + h * d) <= 100, w * d <= 10, *shape])


# ----------------------------------------------------------------------------- a water tank


def water_tank():
    """The least surface of a tank of 100 kg. gpkit's documentation."""
    d, A, V = gp.variable("d", 3, units="m"), gp.variable("A", units="m^2"), gp.variable("V", units="m^3")
    return gp.minimize(A, [A >= 2 * (d * np.roll(d, 1)).sum(), V == d.prod(), 1000 * V == 100])


def water_tank_cvxpy(cp):
    """The same."""
    d, A, V = cp.Variable(3, pos=True), cp.Variable(pos=True), cp.Variable(pos=True)
    area = 2 * (d[0] * d[1] + d[1] * d[2] + d[2] * d[0])
    return cp.Problem(cp.Minimize(A), [A >= area, V == cp.prod(d), 1000 * V == 100])


# ----------------------------------------------------------------------------- an aircraft

# of lift and drag, of the air, of the wing's structure, and the weight without the wing
K, E, MU, RHO, TAU, N_ULT, V_MIN, C_LMAX = 1.2, 0.95, 1.78e-5, 1.23, 0.12, 3.8, 22, 1.5
WETTED, STRUCTURE, SURFACE, CDA0, W_0 = 2.05, 8.71e-5, 45.24, 0.031, 4940


def aircraft_rules(D, A, S, V, W, Re, C_D, C_L, C_f, W_w):
    """Steady flight by drag, aspect ratio, wing area, speed, weight, Reynolds number, coefficients, weight of wing."""
    return [
        C_D >= CDA0 / S + K * C_f * WETTED + C_L**2 / (np.pi * A * E),
        W_w >= STRUCTURE * N_ULT * A**1.5 * (W_0 * W * S) ** 0.5 / TAU + SURFACE * S,
        D >= 0.5 * RHO * S * C_D * V**2,
        Re <= RHO / MU * V * (S / A) ** 0.5,
        C_f >= 0.074 / Re**0.2,
        W <= 0.5 * RHO * S * C_L * V**2,
        W <= 0.5 * RHO * S * C_LMAX * V_MIN**2,
        W >= W_0 + W_w,
    ]


def aircraft():
    """The least drag of a simple aircraft. gpkit's documentation."""
    D, *others = gp.variables("D A S V W Re C_D C_L C_f W_w")
    return gp.minimize(D, aircraft_rules(D, *others))


def aircraft_cvxpy(cp):
    """The same."""
    D, *others = (cp.Variable(pos=True) for _ in range(10))
    return cp.Problem(cp.Minimize(D), aircraft_rules(D, *others))


# ----------------------------------------------------------------------------- power control

GAIN = np.array(
    [
        [1, 0.1, 0.2, 0.1, 0.05],
        [0.1, 1, 0.1, 0.1, 0.05],
        [0.2, 0.1, 1, 0.2, 0.2],
        [0.1, 0.1, 0.2, 1, 0.1],
        [0.05, 0.05, 0.2, 0.1, 1],
    ]
)
CROSSTALK = GAIN - np.diag(np.diag(GAIN))


def power_control():
    """The least total power of five transmitters whose signals are to be 0.2 times noise and crosstalk. CVXPY's
    documentation; tutorial, 5.1."""
    p = gp.variable("p", 5, units="W")
    return gp.minimize(p.sum(), [p >= 0.1, p <= 5, np.diag(GAIN) * p >= 0.2 * (CROSSTALK @ p + 0.5)])


def power_control_cvxpy(cp):
    """The same; CVXPY refuses products with zeros."""
    p = cp.Variable(5, pos=True)
    crosstalk = [sum(CROSSTALK[i, j] * p[j] for j in range(5) if j != i) for i in range(5)]
    rules = [GAIN[i, i] * p[i] >= 0.2 * (crosstalk[i] + 0.5) for i in range(5)]
    return cp.Problem(cp.Minimize(cp.sum(p)), [p >= 0.1, p <= 5, *rules])


# ----------------------------------------------------------------------------- a truss


def truss():
    """The lightest truss of two hollow bars that carries a load; tutorial, 6.3."""
    h, w, A, r = gp.variables("h w A r")
    length = (w**2 + h**2) ** 0.5
    return gp.minimize(2 * A * length, truss_rules(h, w, A, r, length))


def truss_rules(h, w, A, r, length):
    """Stress under 10 downwards and 20 sideways, sizes, and radii: the outer one is (A / (2 pi) + r^2)^(1/2)."""
    return [
        10 * length / (2 * h) <= 0.5 * A,
        20 * length / (2 * w) <= 0.5 * A,
        *[h >= 1, h <= 100, w >= 1, w <= 100, r >= 0.01],
        0.21 * r**2 <= A / (2 * np.pi),
        (A / (2 * np.pi) + r**2) ** 0.5 <= 10,
    ]


def truss_cvxpy(cp):
    """The same."""
    h, w, A, r = (cp.Variable(pos=True) for _ in range(4))
    length = (w**2 + h**2) ** 0.5
    return cp.Problem(cp.Minimize(2 * A * length), truss_rules(h, w, A, r, length))


# ----------------------------------------------------------------------------- a floor plan

AREAS = np.array([0.2, 0.5, 1.5, 0.5])


def floor_plan(ratio: float = 1.0):
    """The smallest rectangle around two rooms side by side above two others, of given areas, each at most `ratio` times
    as long as wide; tutorial, 6.1."""
    h, w = gp.variable("h", 4), gp.variable("w", 4)
    height, width = gp.max(h[0], h[1]) + gp.max(h[2], h[3]), gp.max(w[0] + w[1], w[2] + w[3])
    return gp.minimize(height * width, [h * w == AREAS, h / w <= ratio, w / h <= ratio])


def floor_plan_cvxpy(cp):
    """The same."""
    h, w = cp.Variable(4, pos=True), cp.Variable(4, pos=True)
    height, width = cp.maximum(h[0], h[1]) + cp.maximum(h[2], h[3]), cp.maximum(w[0] + w[1], w[2] + w[3])
    rules = [cp.multiply(h, w) == AREAS, h / w <= 1, w / h <= 1]
    return cp.Problem(cp.Minimize(height * width), rules)


# ----------------------------------------------------------------------------- networks of gates

# The circuit of the tutorial (5.4, figure 4): what each gate drives, and its power for each unit of size.
FANOUT = [[3], [3, 4], [4, 6], [5, 6], [6], [], []]
POWER = np.array([1, 0.8, 1, 0.7, 0.7, 0.5, 0.5]) * np.array([1, 2, 1, 1.5, 1.5, 1, 2])


def circuit(area, power, fanout=FANOUT, powers=POWER):
    """The sizes of gates for the least delay by area and power. The delay of a gate is its resistance 1 / x times the
    capacitances 1 + x of what it drives (Elmore); T is when the slowest path arrives at its output."""
    x, T, D = gp.variable("x", len(fanout)), gp.variable("T", len(fanout)), gp.variable("D")
    limits = [(x.sum() <= area).named("area"), ((powers * x).sum() <= power).named("power")]
    return gp.minimize(D, circuit_rules(x, T, D, fanout) + limits)


def circuit_cvxpy(cp, area, power, fanout=FANOUT, powers=POWER):
    """The same."""
    x, T, D = cp.Variable(len(fanout), pos=True), cp.Variable(len(fanout), pos=True), cp.Variable(pos=True)
    limits = [cp.sum(x) <= area, cp.sum(cp.multiply(powers, x)) <= power]
    return cp.Problem(cp.Minimize(D), circuit_rules(x, T, D, fanout) + limits)


def circuit_rules(x, T, D, fanout):
    """Arrival times; a load of 10 at each output."""
    driven = {h for outputs in fanout for h in outputs}
    delay = [(sum(1 + x[h] for h in outputs) if outputs else 10) / x[g] for g, outputs in enumerate(fanout)]
    rules = []
    for g, outputs in enumerate(fanout):
        rules += [x[g] >= 1] + [T[g] + delay[h] <= T[h] for h in outputs]
        rules += [] if outputs else [T[g] <= D]
        rules += [] if g in driven else [delay[g] <= T[g]]
    return rules


def random_network(gates: int, seed: int = 0):
    """Fan-out and powers of gates in layers, each driven by two of the layer before."""
    rng = np.random.default_rng(seed)
    layers = np.array_split(np.arange(gates), max(2, int(np.sqrt(gates) / 2)))
    fanout: list[list[int]] = [[] for _ in range(gates)]
    for before, own in pairwise(layers):
        for gate in own:
            for source in rng.choice(before, min(2, before.size), replace=False):
                fanout[source].append(int(gate))
    return fanout, rng.uniform(0.5, 2, gates)


EXAMPLES = {
    "box": Example(box, box_cvxpy, 77.459666924),
    "water tank": Example(water_tank, water_tank_cvxpy, 6 * 0.1 ** (2 / 3)),
    "aircraft": Example(aircraft, aircraft_cvxpy, 303.074772586),
    # all signals are as weak as they may be
    "power control": Example(
        power_control,
        power_control_cvxpy,
        np.sum(np.linalg.solve(np.diag(np.diag(GAIN)) - 0.2 * CROSSTALK, np.full(5, 0.1))),
    ),
    # h = w = 1
    "truss": Example(truss, truss_cvxpy, 80.0),
    # squares
    "floor plan": Example(floor_plan, floor_plan_cvxpy, (np.sqrt(0.5) + np.sqrt(1.5)) ** 2),
    "7 gates": Example(lambda: circuit(100, 20), lambda cp: circuit_cvxpy(cp, 100, 20), 7.8936),
    "1000 gates": Example(
        lambda: circuit(3000, 4000, *random_network(1000)),
        lambda cp: circuit_cvxpy(cp, 3000, 4000, *random_network(1000)),
    ),
}
