"""Settings of the test process: float64, no silent promotion of dtypes, compiled programs kept between runs."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest

# The process is the tests' own. What runs in float32 by default is tested with float32 data or in a process of its own.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Nearly all the time of the tests is compilation, which takes a third without LLVM's optimisation and without the newer
# generator of fused kernels (XLA has the choice until JAX 0.11). What users' programs are compiled to is tested by the
# processes that tests start, the README and the tour.
FLAGS = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 12):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"

# The workers compile the same programs.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Compilation makes the first example slow, so there is no deadline. The examples are the same in every run, so that a
# change is judged by itself; `--hypothesis-profile=explore` draws new ones.
hypothesis.settings.register_profile("convexjax", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=100)
hypothesis.settings.load_profile("convexjax")


def pytest_configure():
    """Have XLA read its flags, and leave none to the processes that tests start. One thread a worker for LAPACK, which
    reads this with the first factorisation: more of them than cores wait for each other most of the time."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    users = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{users or ''} {FLAGS}"
    jax.devices()
    del os.environ["XLA_FLAGS"]
    if users is not None:
        os.environ["XLA_FLAGS"] = users


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Every compiled program holds memory maps, of which Linux allows a process 65530: one over, and it dies."""
    yield
    jax.clear_caches()
