"""`python -m convexjax`: the command line."""

import jax

from convexjax.command_line import main

if __name__ == "__main__":
    # The published optima have up to eleven digits. This process is the program's own, so the flag may be set here.
    jax.config.update("jax_enable_x64", True)
    raise SystemExit(main())
