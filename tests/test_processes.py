"""What a second process need not do again: compile, with a cache on disk; and trace, with an exported program."""

import subprocess
import sys

import pytest

# Each script is a process of its own. Compilations are counted by JAX's own events.
HEAD = """
import sys
import jax

folder = sys.argv[1]
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", folder)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
missed = []
jax.monitoring.register_event_listener(lambda name, **_: missed.append(name) if name.endswith("cache_misses") else None)

import numpy as np

data = {"P": np.diag([4.0, 1.0, 2.0]), "q": np.array([-1.0, -4.0, -1.0]), "A": np.ones((1, 3)), "b": np.array([1.5])}
"""
SOLVE = (
    HEAD
    + """
import convexjax as cj

solution = cj.solve_qp(**data, lb=0.0)
assert solution.status == cj.Status.SOLVED
print(len(missed), *np.asarray(solution.x).round(6))
"""
)
EXPORT = (
    HEAD
    + """
import convexjax as cj

exported = jax.export.export(jax.jit(lambda data: cj.solve_qp(**data, lb=0.0)))(data)
open(folder + "/program", "wb").write(exported.serialize())
batch = jax.export.symbolic_args_specs(jax.tree.map(lambda v: np.stack([v] * 2), data), "lanes, ...")
many = jax.export.export(jax.jit(jax.vmap(lambda data: cj.solve_qp(**data, lb=0.0))))(batch)
open(folder + "/batch", "wb").write(many.serialize())
"""
)
CALL = (
    HEAD
    + """
from convexjax.solution import Solution  # what an exported program returns has to be known

solve = jax.jit(jax.export.deserialize(open(folder + "/program", "rb").read()).call)
solution = solve(data)
assert isinstance(solution, Solution) and solution.status == 1
print(len(missed), *np.asarray(solution.x).round(6))
solve = jax.jit(jax.export.deserialize(open(folder + "/batch", "rb").read()).call)
solution = solve(jax.tree.map(lambda v: np.stack([v, v, v]), data))
assert (solution.status == 1).all() and solution.x.shape == (3, 3)
"""
)


def run(script, folder):
    process = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.split()


EXPECTED = ["0.0", "1.5", "0.0"]


@pytest.mark.core
def test_a_second_process_with_the_cache_of_the_first_compiles_nothing(tmp_path):
    misses, *x = run(SOLVE, tmp_path)
    assert int(misses) > 0 and x == EXPECTED
    misses, *x = run(SOLVE, tmp_path)
    assert int(misses) == 0 and x == EXPECTED


@pytest.mark.core
def test_an_exported_program_is_called_without_its_source(tmp_path):
    pytest.importorskip("flatbuffers", reason="jax.export writes programs by flatbuffers")
    run(EXPORT, tmp_path)
    assert run(CALL, tmp_path)[1:] == EXPECTED
    misses, *x = run(CALL, tmp_path)
    assert int(misses) == 0 and x == EXPECTED
