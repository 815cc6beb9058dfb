"""Settings of the test process: float64, no silent promotion of dtypes, compiled programs kept between runs."""

import os
from pathlib import Path

import hypothesis
import jax

# The process is the tests' own. What runs in float32 by default is tested with float32 data or in a process of its own.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Nearly all the time of the tests is compilation, and the workers compile the same programs.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Compilation makes the first example slow, so there is no deadline.
hypothesis.settings.register_profile("convexjax", deadline=None, max_examples=20, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("convexjax")
