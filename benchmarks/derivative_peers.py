"""Differentiable solvers behind one interface: (case) -> (data) -> outputs, as each of them offers it.

Bounds become rows where a solver has none, and all but qpax and jaxopt take the standard form of the case; JAX carries
the derivatives through that. Tolerances are set tight where a solver lets them; `qpax` keeps its own smoothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.conic_peers import moreau_cones
from benchmarks.derivative_cases import Case
from benchmarks.derivative_setting import COLUMNS, Setting
from benchmarks.programs import ConicProgram
from benchmarks.worker import missing

LINEAR = ("LP", "QP")


@dataclass(frozen=True)
class Peer:
    """A solver: what it needs, where it applies, and the columns, outputs and data it has derivatives for."""

    packages: tuple[str, ...]
    prepare: Callable[..., Callable]
    cases: tuple[str, ...] | None = None  # None: all
    columns: tuple[str, ...] = COLUMNS
    outputs: tuple[str, ...] | None = None  # None: all
    fixed: tuple[str, ...] = ("alpha",)
    jit: bool = True

    @property
    def missing(self) -> str:
        """The packages that are not installed."""
        return missing(self.packages)

    def setting(self, case: Case) -> Setting:
        """The loss and directions that this solver is asked for."""
        return Setting(case, self.outputs, tuple(name for name in self.fixed if name in case.data))


def prepare_convexjax(case: Case, **options) -> Callable:
    """The public function of the class, with these options."""
    import convexjax as cj

    return lambda data: case.solve(data, cj.Options(**options))


def prepare_qpax(case: Case, **settings) -> Callable:
    """qpax's differentiable entry, which returns x alone."""
    import qpax

    def solve(data):
        P, q, A, b, G, h = _inequalities(data)
        return {"x": qpax.solve_qp_primal(P, q, A, b, G, h, **settings)}

    return solve


def prepare_jaxopt(case: Case) -> Callable:
    """jaxopt's OSQP."""
    import jaxopt

    solver = jaxopt.OSQP(tol=1e-9, maxiter=50_000)

    def solve(data):
        P, q, A, b, G, h = _inequalities(data)
        found = solver.run(params_obj=(P, q), params_eq=(A, b), params_ineq=(G, h)).params
        return _from_duals(case, data, found.primal, found.dual_eq, found.dual_ineq)

    return solve


def prepare_moreau(case: Case, method: str) -> Callable:
    """moreau's JAX front, on the standard form with every entry stored."""
    import jax.numpy as jnp
    import moreau
    from moreau.jax import Solver

    product = moreau_cones(case.cones)
    has_P, (m, n) = "P" in case.data, (case.solution[1].size, case.solution[0].size)
    limit = 10_000 if method == "auto" else 200  # as in the other benchmarks
    settings = moreau.Settings(solver=method, device="cpu", enable_grad=True, max_iter=limit)
    P_pattern = _full_pattern(n, n) if has_P else (np.zeros(n + 1, int), np.zeros(0, int))
    solver = Solver(n, m, *P_pattern, *_full_pattern(m, n), product, settings)

    def solve(data):
        P, q, A, b = case.conic(data)
        values = ((P + P.T) / 2).ravel() if has_P else jnp.zeros(0)
        found = solver.solve(values, A.ravel(), q, b)
        return case.split(data, found.x, found.s, found.z)

    return solve


def prepare_cvxpylayers(case: Case) -> Callable:
    """cvxpylayers' JAX front with its default solver; P enters by its Cholesky factor, as its rules want."""
    import cvxpy as cp
    import jax.numpy as jnp
    from cvxpylayers.jax import CvxpyLayer

    (m, n), has_P = (case.solution[1].size, case.solution[0].size), "P" in case.data
    factor, q, A, b = cp.Parameter((n, n)), cp.Parameter(n), cp.Parameter((m, n)), cp.Parameter(m)
    x, s = cp.Variable(n), cp.Variable(m)
    equations = A @ x + s == b
    objective = q @ x + (0.5 * cp.sum_squares(factor @ x) if has_P else 0)
    problem = cp.Problem(cp.Minimize(objective), [equations, *_cvxpy_cones(case, s)])
    parameters = [*([factor] if has_P else []), q, A, b]
    layer = CvxpyLayer(problem, parameters, [x, s, equations.dual_variables[0]], solver_args={"eps": 1e-10})

    def solve(data):
        P, *rest = case.conic(data)
        values = [*([jnp.linalg.cholesky((P + P.T) / 2).T] if has_P else []), *rest]
        return case.split(data, *layer(*values))

    return solve


def _cvxpy_cones(case: Case, s) -> list:
    """s in the product of the case's cones."""
    import cvxpy as cp

    cones, first, constraints = case.cones, 0, []

    def rows(count):
        nonlocal first
        first += count
        return s[first - count : first]

    if cones.zero:
        constraints.append(rows(cones.zero) == 0)
    if cones.nonnegative:
        constraints.append(rows(cones.nonnegative) >= 0)
    for size in cones.second_order:
        part = rows(size)
        constraints.append(cp.SOC(part[0], part[1:]))
    for side in cones.psd:
        part, matrix = rows(side * (side + 1) // 2), cp.Variable((side, side), PSD=True)
        for k, (j, i) in enumerate(zip(*np.tril_indices(side), strict=True)):
            constraints.append((1 if i == j else np.sqrt(2)) * matrix[i, j] == part[k])
    for _ in range(cones.exponential):
        constraints.append(cp.ExpCone(*(rows(1) for _ in range(3))))
    for alpha in cones.power:
        constraints.append(cp.PowCone3D(*(rows(1) for _ in range(3)), alpha))
    return constraints


def prepare_diffqcp(case: Case) -> Callable:
    """diffqcp's two products with a derivative, at Clarabel's solution; it has no function to transform further."""
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def reverse(P, q, A, b):
        return _diffqcp(case, P, q, A, b)[1]

    def forward_pass(P, q, A, b):
        problem, solution = _diffqcp(case, P, q, A, b)
        return solution, problem

    def backward_pass(problem, change):
        dx, ds, dz = change
        order = _lower_order(case)
        dP, dA, dq, db = problem.vjp(dx, dz[order], ds[order])
        n, back = dq.size, np.argsort(order)
        upper = jnp.zeros((n, n)).at[dP.indices[:, 0], dP.indices[:, 1]].add(dP.data)
        rows = jnp.zeros((db.size, n)).at[dA.indices[:, 0], dA.indices[:, 1]].add(dA.data)
        return upper + jnp.triu(upper, 1).T, dq, rows[back], db[back]

    reverse.defvjp(forward_pass, backward_pass)

    @jax.custom_jvp
    def forward(P, q, A, b):
        return _diffqcp(case, P, q, A, b)[1]

    @forward.defjvp
    def forward_derivative(values, changes):
        problem, solution = _diffqcp(case, *values)
        dP, dq, dA, db = changes
        order = _lower_order(case)
        changes = _sparse(jnp.triu(dP), upper=True), _sparse(dA[order]), dq, db[order]
        dx, dz, ds = problem.jvp(*changes)
        back = np.argsort(order)
        return solution, (dx, ds[back], dz[back])

    def solve(data, column):
        P, q, A, b = case.conic(data)
        P = jnp.zeros((q.size, q.size)) if P is None else (P + P.T) / 2
        return case.split(data, *(forward if column == "jvp" else reverse)(P, q, A, b))

    return solve


def _diffqcp(case: Case, P, q, A, b):
    """The solved problem in diffqcp's form, and (x, s, z)."""
    import jax.numpy as jnp
    import scipy.sparse as sparse
    from diffqcp import HostQCP, QCPStructureCPU

    from benchmarks.conic_peers import prepare_clarabel

    arrays = [np.asarray(value) for value in (P, q, A, b)]
    matrices = [sparse.csc_array(arrays[0]), sparse.csc_array(arrays[2])]
    program = ConicProgram(name="", P=matrices[0], q=arrays[1], A=matrices[1], b=arrays[3], cones=case.cones)
    found = prepare_clarabel(program, 1e-10)()
    cones, order = case.cones, _lower_order(case)
    sizes = {"z": cones.zero, "l": cones.nonnegative, "q": list(cones.second_order), "s": list(cones.psd)}
    sizes |= {"ep": cones.exponential, "p": list(cones.power)}
    upper, rows = _sparse(jnp.triu(P), upper=True), _sparse(A[order])
    structure = QCPStructureCPU(upper, rows, {name: size for name, size in sizes.items() if size})
    x, s, z = (jnp.asarray(value) for value in (found.x, found.s, found.z))
    return HostQCP(upper, rows, q, b[order], x, z[order], s[order], structure), (x, s, z)


def _sparse(matrix, upper: bool = False):
    """Every entry stored (of the upper triangle)."""
    import jax.numpy as jnp
    from jax.experimental.sparse import BCOO

    m, n = matrix.shape
    rows, columns = np.triu_indices(n) if upper else (part.ravel() for part in np.indices((m, n)))
    return BCOO((matrix[rows, columns], jnp.asarray(np.stack([rows, columns], 1))), shape=(m, n))


def _lower_order(case: Case) -> np.ndarray:
    """Rows with each matrix's lower triangle by columns, where the case has the upper one."""
    order = np.arange(case.solution[1].size)
    zero, nonnegative, second_order = case.cones.sizes[:3]
    first = zero + nonnegative + second_order
    for side in case.cones.psd:
        size = side * (side + 1) // 2
        columns, rows = np.tril_indices(side)
        order[first : first + size] = first + np.lexsort((columns, rows))
        first += size
    return order


def _full_pattern(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row offsets and column indices of a matrix with every entry stored."""
    return n * np.arange(m + 1), np.tile(np.arange(n), m)


def _inequalities(data):
    """P, q, A, b, G, h of an LP or a QP with its bounds as rows of G."""
    import jax.numpy as jnp

    eye = jnp.eye(data["q"].size)
    P = (data["P"] + data["P"].T) / 2 if "P" in data else jnp.zeros_like(eye)
    G, h = jnp.concatenate([data["G"], -eye, eye]), jnp.concatenate([data["h"], -data["lb"], data["ub"]])
    return P, data["q"], data["A"], data["b"], G, h


def _from_duals(case: Case, data, x, y, z):
    """Outputs from x and the duals of equations and inequalities."""
    import jax.numpy as jnp

    _, _, A, b = case.conic(data)
    return case.split(data, x, b - A @ x, jnp.concatenate([y, z]))


PEERS = {
    "convexjax": Peer(("convexjax",), prepare_convexjax, fixed=()),
    "qpax": Peer(("qpax",), prepare_qpax, cases=LINEAR, outputs=("x",)),
    "qpax_tight": Peer(
        ("qpax",), partial(prepare_qpax, solver_tol=1e-8, target_kappa=1e-8), cases=LINEAR, outputs=("x",)
    ),
    "jaxopt": Peer(("jaxopt",), prepare_jaxopt, cases=LINEAR),
    "moreau": Peer(("moreau",), partial(prepare_moreau, method="auto")),
    "moreau_ipm": Peer(("moreau",), partial(prepare_moreau, method="ipm")),
    "cvxpylayers": Peer(("cvxpylayers", "cvxpy", "diffcp"), prepare_cvxpylayers, jit=False),
    "diffqcp": Peer(("diffqcp", "clarabel"), prepare_diffqcp, columns=("grad", "jvp"), jit=False),
}
