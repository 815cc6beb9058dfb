"""Convex problems inside of models: what they learn from examples, and networks that learn rules."""

import itertools
import time
from functools import partial

import numpy as np

Rows = list[list[str]]


# ----------------------------------------------------------------------------- mini-Sudoku


def boards() -> np.ndarray:
    """All 288 boards of 4 x 4 cells whose rows, columns and 2 x 2 blocks hold each digit once."""
    rows = list(itertools.permutations(range(4)))
    found = []
    for four in itertools.product(rows, repeat=4):
        board = np.array(four)
        parts = [*board.T, *(board[i : i + 2, j : j + 2].ravel() for i in (0, 2) for j in (0, 2))]
        if all(len(set(part)) == 4 for part in parts):
            found.append(board.ravel())
    return np.array(found)


def puzzles(all_boards, own, count: int, rng):
    """Puzzles of the boards `own` with 5 to 10 clues and one solution, as indicators (count, 64), and solutions."""
    indicators = np.eye(4)[all_boards].reshape(-1, 64)
    X, Y = [], []
    while len(X) < count:
        i, known = rng.choice(own), rng.permutation(16) < rng.integers(5, 11)
        if (all_boards[:, known] == all_boards[i, known]).all(1).sum() == 1:
            X.append(indicators[i] * np.repeat(known, 4))
            Y.append(indicators[i])
    return np.array(X, np.float32), np.array(Y, np.float32)


def sudoku(epochs: int = 10) -> Rows:
    """The rules of mini-Sudoku as the equations of a quadratic program, learnt from solved puzzles.

    The layer is `networks.quadratic_program` with 40 equations, from A at random. The boards of the puzzles to test
    with are in none to learn from.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax.learn import losses, networks, training

    rng = np.random.default_rng(0)
    every = boards()
    order = rng.permutation(len(every))
    X, Y = puzzles(every, order[:200], 2000, rng)
    X_test, Y_test = puzzles(every, order[200:], 1000, rng)

    squares = losses.Loss("squares", lambda z, y: jnp.sum((z - y) ** 2, 1))
    network = networks.quadratic_program(jax.random.key(0), 64, 40)
    apply, start = network.apply, network.params | {"t": jnp.full(64, -jnp.log(4.0))}
    begin = time.perf_counter()
    how = dict(loss=squares, optimizer=optax.adam(1e-2), batch_size=50)
    trained = training.fit(apply, start, X, Y, jax.random.key(1), epochs=epochs, **how).require_finite()
    seconds = time.perf_counter() - begin

    digits = lambda z: np.asarray(z).reshape(-1, 16, 4).argmax(2)
    right = lambda params: (digits(training.predict(apply, params, X_test)) == digits(Y_test)).all(1).mean()
    # the rules: indicators of rows, columns, blocks and cells add up to one
    cell = np.arange(64).reshape(4, 4, 4)
    groups = [cell[i, :, d] for i in range(4) for d in range(4)] + [cell[:, j, d] for j in range(4) for d in range(4)]
    groups += [cell[i : i + 2, j : j + 2, d].ravel() for i in (0, 2) for j in (0, 2) for d in range(4)]
    groups += [cell[i, j] for i in range(4) for j in range(4)]
    rules = np.array([np.isin(np.arange(64), group) for group in groups], float)
    basis = np.linalg.qr(np.asarray(trained.params["A"], float).T)[0]
    missed = np.linalg.norm(rules - rules @ basis @ basis.T) / np.linalg.norm(rules)
    return [
        ["mini-Sudoku: boards right of 1000 new ones", "before", "learnt", "rules outside of A", "seconds"],
        [
            "40 equations",
            f"{100 * right(start):.1f} %",
            f"{100 * right(trained.params):.1f} %",
            f"{missed:.3f}",
            f"{seconds:.0f}",
        ],
    ]


# ----------------------------------------------------------------------------- decisions


def grid_edges(side: int = 5):
    """Edges to the right and downwards of a grid, as the incidence matrix (side^2, edges) of flows."""
    number = np.arange(side * side).reshape(side, side)
    pairs = list(zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True))
    pairs += zip(number[:-1].ravel(), number[1:].ravel(), strict=True)
    incidence = np.zeros((side * side, len(pairs)))
    for edge, (tail, head) in enumerate(pairs):
        incidence[tail, edge], incidence[head, edge] = 1, -1
    return incidence


def shortest_path_data(seed: int, count: int, degree: int = 6, noise: float = 0.5):
    """Features (count, 5) and costs (count, 40) of Elmachtoub and Grigas: ((B x / sqrt 5 + 3)^degree + 1) / 3.5^degree
    times noise, with B of zeros and ones."""
    rng = np.random.default_rng(seed)
    B = (rng.uniform(size=(40, 5)) < 0.5).astype(float)
    X = rng.normal(size=(count, 5))
    clean = ((X @ B.T / np.sqrt(5) + 3) ** degree + 1) / 3.5**degree
    return X.astype(np.float32), (clean * rng.uniform(1 - noise, 1 + noise, clean.shape)).astype(np.float32)


def decisions(seeds: int = 5, epochs: int = 40) -> Rows:
    """Shortest paths with costs predicted by a linear model: fitted to the costs, and to the decisions."""
    import jax
    import jax.numpy as jnp
    import optax

    import convexjax as cj
    from convexjax import learn
    from convexjax.learn import losses, training

    incidence = grid_edges()
    # one conservation law follows from the others
    A, b = jnp.asarray(incidence[:-1], jnp.float32), jnp.zeros(24).at[0].set(1.0)
    solve = lambda cost: cj.solve_lp(cost, A=A, b=b, lb=jnp.zeros(()), ub=jnp.ones(()))
    solve_all = jax.jit(jax.vmap(solve))
    of_rows = jax.vmap(lambda p, c, x: cj.layers.decision_loss(solve, p, c, x))
    loss = losses.Loss("decisions", lambda f, y: of_rows(f, y[:, :40], y[:, 40:]))
    apply = lambda params, x, key: x @ params["W"] + params["b"]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, epochs * 8))

    begin, found = time.perf_counter(), []
    for seed in range(seeds):
        X, C = shortest_path_data(seed, 1200)
        train, test = slice(0, 200), slice(200, None)
        best = solve_all(C)
        least = float(jnp.sum(best.objective[test]))
        regret = lambda predicted, C=C, least=least, test=test: (
            (float(jnp.sum(solve_all(predicted).x * C[test])) - least) / least
        )
        linear = learn.linear.fit(X[train], C[train])
        start = {"W": linear.coefficients, "b": linear.intercept}
        targets = jnp.concatenate([jnp.asarray(C), best.x], 1)[train]
        how = dict(loss=loss, optimizer=optimizer, epochs=epochs, batch_size=25)
        trained = training.fit(apply, start, X[train], targets, jax.random.key(seed), **how).require_finite()
        found.append([regret(apply(params, X[test], None)) for params in (start, trained.params)])
    seconds = time.perf_counter() - begin
    rows = [["regret of 1000 shortest paths, % of the least cost", *(f"seed {s}" for s in range(seeds)), "mean"]]
    for name, own in zip(("two stages: least squares", "decision-focused"), np.array(found).T, strict=True):
        rows.append([name, *(f"{100 * r:.1f}" for r in own), f"{100 * own.mean():.1f}"])
    return [*rows, ["seconds in all", f"{seconds:.0f}", *[""] * seeds]]


# ----------------------------------------------------------------------------- control


def controller() -> Rows:
    """The cost matrices of an expert from its inputs, through a predictive controller with bounds.

    Two masses on springs (4 states, 2 forces), horizon 12, inputs between -0.6 and 0.6. The cost is known up to a
    factor, so that the first entry of R is fixed. The learner sees the first input at 64 states.
    """
    import jax
    import jax.numpy as jnp

    import convexjax as cj
    from convexjax import learn

    with jax.enable_x64(True):
        continuous = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [-2, 1, -0.2, 0.0], [1, -2, 0, -0.2]])
        A = jnp.asarray(np.eye(4) + 0.2 * continuous + 0.02 * continuous @ continuous)
        B = jnp.asarray(0.2 * np.array([[0, 0], [0, 0], [1.0, 0], [0, 1]]) + 0.02 * continuous[:, 2:])
        states = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4)))
        q, r = jnp.array([3.0, 0.5, 0.2, 1.5]), jnp.array([1.0, 0.4])

        def first_input(log_cost, state):
            Q, R = jnp.diag(jnp.exp(log_cost[:4])), jnp.diag(jnp.append(1.0, jnp.exp(log_cost[4])))
            return cj.solve_mpc(A, B, Q, R, state, horizon=12, u_lb=-0.6, u_ub=0.6)

        def inputs(log_cost):
            solution = jax.vmap(first_input, (None, 0))(log_cost, states)
            return solution.x.inputs[:, 0]

        truth = jnp.log(jnp.append(q, r[1]))
        expert = inputs(truth)
        bound = float(jnp.mean(jnp.abs(expert) > 0.599))
        begin = time.perf_counter()
        fit = jax.jit(lambda start: learn.gauss_newton.minimise(lambda p: inputs(p) - expert, start, tolerance=1e-9))
        found = jax.block_until_ready(fit(jnp.zeros(5)))
        seconds = time.perf_counter() - begin
    show = lambda v: " ".join(f"{x:.4f}" for x in np.exp(np.asarray(v)))
    error = float(np.abs(np.exp(np.asarray(found.params - truth)) - 1).max())
    return [
        ["costs of the states and of the second input", "value"],
        ["expert", show(truth)],
        ["start", show(np.zeros(5))],
        ["learnt", show(found.params)],
        ["largest relative error", f"{error:.1e}"],
        ["inputs at a bound", f"{100 * bound:.0f} %"],
        ["steps, seconds with compilation", f"{int(found.num_iters)}, {seconds:.0f}"],
    ]


# ----------------------------------------------------------------------------- denoising


def denoising(epochs: int = 15) -> Rows:
    """Signals with jumps, more often at some places than at others: one weight for all pairs, and one for each."""
    import jax
    import jax.numpy as jnp
    import optax

    import convexjax as cj
    from convexjax.learn import losses, training

    rng = np.random.default_rng(0)
    likely = np.where(np.arange(47) % 8 == 7, 0.6, 0.01)
    jumps = (rng.uniform(size=(600, 47)) < likely) * rng.normal(size=(600, 47)) * 2
    clean = np.concatenate([np.zeros((600, 1)), np.cumsum(jumps, 1)], 1).astype(np.float32)
    noisy = (clean + 0.5 * rng.normal(size=clean.shape)).astype(np.float32)

    def apply(params, x, key):
        return cj.layers.masked(jax.vmap(lambda y: cj.layers.total_variation(y, jnp.exp(params)))(x))[0]

    how = dict(loss=losses.squared, optimizer=optax.adam(0.1), epochs=epochs, batch_size=40)
    begin, key = time.perf_counter(), jax.random.key(0)
    fit = partial(training.fit, apply, X=noisy[:400], y=clean[:400], key=key, **how)
    error = lambda x: f"{float(np.mean((np.asarray(x) - clean[400:]) ** 2)):.4f}"
    rows = [["total variation, 200 new signals of 48 values", "mean squared error"], ["noisy", error(noisy[400:])]]
    for name, start in (("one weight, learnt", jnp.array(-1.0)), ("47 weights, learnt", jnp.full(47, -1.0))):
        trained = fit(start).require_finite()
        rows.append([name, error(training.predict(apply, trained.params, noisy[400:]))])
    return [*rows, ["seconds", f"{time.perf_counter() - begin:.0f}"]]


# ----------------------------------------------------------------------------- rules


def early_warning_score(row):
    """The class of clinical risk by the National Early Warning Score 2 (Royal College of Physicians, 2017), scale 1:
    0 low, 1 low to medium (a single value scores 3), 2 medium, 3 high.

    row: breaths a minute, oxygen saturation in %, extra oxygen (0 or 1), systolic pressure, pulse, alert (0 or 1),
    temperature.
    """
    import jax.numpy as jnp

    def score(value, limits, scores):
        """scores[k] for limits[k-1] < value <= limits[k], after rounding as the chart does."""
        return jnp.asarray(scores)[jnp.searchsorted(jnp.asarray(limits), value, side="left")]

    breaths, saturation, oxygen, pressure, pulse, alert, temperature = row
    whole = lambda value: jnp.round(value)
    parts = jnp.stack(
        [
            score(whole(breaths), [8.0, 11.0, 20.0, 24.0], [3, 1, 0, 2, 3]),
            score(whole(saturation), [91.0, 93.0, 95.0], [3, 2, 1, 0]),
            jnp.where(oxygen > 0.5, 2, 0),
            score(whole(pressure), [90.0, 100.0, 110.0, 219.0], [3, 2, 1, 0, 3]),
            score(whole(pulse), [40.0, 50.0, 90.0, 110.0, 130.0], [3, 1, 0, 1, 2, 3]),
            jnp.where(alert > 0.5, 0, 3),
            # tenths of a degree, so that the limits are whole numbers
            score(whole(10 * temperature), [350.0, 360.0, 380.0, 390.0], [3, 1, 0, 1, 2]),
        ]
    )
    total, single = jnp.sum(parts), jnp.max(parts) == 3
    low = jnp.where(single, 1, 0)
    return jnp.where(total >= 7, 3, jnp.where(total >= 5, 2, low)).astype(jnp.int32)


# of breaths, saturation, pressure, pulse, temperature: the region that is sampled, and a wider one
REGION = np.array([[6, 86, 80, 35, 34.5], [30, 100, 230, 140, 40.0]])
WIDER = np.array([[2, 70, 50, 20, 32.0], [45, 100, 280, 190, 42.0]])


def vital_signs(region, key):
    """A row of `early_warning_score`: values from the region, extra oxygen for 3 in 10, alert 9 in 10."""
    import jax
    import jax.numpy as jnp

    of_values, of_oxygen, of_alert = jax.random.split(key, 3)
    breaths, saturation, pressure, pulse, temperature = jax.random.uniform(
        of_values, (5,), minval=jnp.asarray(region[0]), maxval=jnp.asarray(region[1])
    )
    oxygen, alert = (1.0 * jax.random.bernoulli(k, p) for k, p in ((of_oxygen, 0.3), (of_alert, 0.9)))
    return jnp.stack([breaths, saturation, oxygen, pressure, pulse, alert, temperature])


def rules(count: int = 100_000, epochs: int = 20) -> Rows:
    """A network that learns the early warning score from samples."""
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax.learn import losses, networks, training
    from convexjax.learn import rules as of_rules

    keys = jax.random.split(jax.random.key(0), 4)
    sampler = lambda region: partial(vital_signs, region)
    X, y = of_rules.label(early_warning_score, sampler(REGION), keys[0], count)
    mean, scale = X.mean(0), X.std(0)
    network = networks.mlp(keys[1], 7, 4, width=128, depth=3)
    apply = lambda params, x, key: network.apply(params, (x - mean) / scale, key)
    optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, epochs * (count // 500)), weight_decay=1e-4)
    begin = time.perf_counter()
    how = dict(loss=losses.cross_entropy, optimizer=optimizer, epochs=epochs, batch_size=500)
    trained = training.fit(apply, network.params, X, y, keys[1], **how).require_finite()
    seconds = time.perf_counter() - begin
    rows = [["early warning score, 20,000 new samples", "agreement", "confidence", "calibration error", "by class"]]
    for name, region, key in (("in the region", REGION, keys[2]), ("in a wider one", WIDER, keys[3])):
        X, y = of_rules.label(early_warning_score, sampler(region), key, 20_000)
        if region is WIDER:  # what lies outside
            values = np.asarray(X)[:, [0, 1, 3, 4, 6]]
            out = np.flatnonzero(((values < REGION[0]) | (values > REGION[1])).any(1))
            X, y = X[out], y[out]
        found = of_rules.agreement(training.predict(apply, trained.params, X), y)
        by_class = ", ".join(f"{100 * float(v):.1f}" for v in found.by_class)
        numbers = [found.rate, found.confidence, found.calibration_error]
        rows.append([name, *(f"{100 * float(v):.2f} %" for v in numbers), by_class])
    commonest = float(jnp.max(jnp.bincount(y)) / len(y))
    return [*rows, ["the commonest class outside", f"{100 * commonest:.1f} %"], ["seconds", f"{seconds:.0f}"]]


# ----------------------------------------------------------------------------- optimizers


def optimizers() -> Rows:
    """The same loss of a small network by five methods: 200 samples of a smooth function, 61 parameters, float64."""
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax import learn
    from convexjax.learn import losses, networks, training

    with jax.enable_x64(True):
        X = jnp.linspace(-1, 1, 200)[:, None]
        y = jnp.sin(5 * X[:, 0]) * jnp.exp(X[:, 0])
        network = networks.mlp(jax.random.key(0), 1, "scalar", width=20, depth=1, activation="tanh")
        residuals = lambda params: network.apply(params, X) - y
        risk = lambda params: jnp.mean(residuals(params) ** 2)

        def by_optax(optimizer, epochs, batch_size=200):
            how = dict(loss=losses.squared, optimizer=optimizer, epochs=epochs, batch_size=batch_size)
            return lambda: training.fit(network.apply, network.params, X, y, jax.random.key(1), **how).params

        least = jax.jit(lambda start: learn.gauss_newton.minimise(residuals, start, max_iters=200).params)
        quasi = jax.jit(lambda start: learn.lbfgs.minimise(risk, start, max_iters=1000, tolerance=1e-9).params)
        none = lambda v, step: v
        fast = jax.jit(lambda start: learn.proximal.minimise(risk, none, start, max_iters=5000, tolerance=1e-9).params)
        methods = {
            "Levenberg-Marquardt, 200 steps": lambda: least(network.params),
            "L-BFGS (optax), 1,000 steps": lambda: quasi(network.params),
            "accelerated gradient, 5,000 steps": lambda: fast(network.params),
            "Adam (optax), 5,000 steps": by_optax(optax.adam(1e-2), 5000),
            "Adam, batches of 20, 5,000 steps": by_optax(optax.adam(1e-2), 500, 20),
        }
        rows = [["method", "mean squared error", "seconds, compiled"]]
        for name, method in methods.items():
            jax.block_until_ready(method())
            begin = time.perf_counter()
            params = jax.block_until_ready(method())
            rows.append([name, f"{float(risk(params)):.1e}", f"{time.perf_counter() - begin:.2f}"])
    return rows


PARTS = {
    "sudoku": sudoku,
    "decisions": decisions,
    "controller": controller,
    "denoising": denoising,
    "rules": rules,
    "optimizers": optimizers,
}
