"""`python -m convexjax`: solve real problems with known optima and print one table."""

import jax

from convexjax.tour import main

if __name__ == "__main__":
    # The published optima have up to eleven digits. This process is the program's own, so the flag may be set here.
    jax.config.update("jax_enable_x64", True)
    raise SystemExit(main())
