"""A recurrent network of Equinox cells over `lax.scan`. This module needs Equinox (the extra `nn`)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Recurrent(eqx.Module):
    """The outputs of the last step, or of all steps, of a sequence (time, inputs)."""

    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear
    every_step: bool = eqx.field(static=True)

    def __call__(self, x, key=None):
        """(outputs,) or (time, outputs)."""
        zero = jnp.zeros(self.cell.hidden_size, self.cell.weight_hh.dtype)
        gated = isinstance(self.cell, eqx.nn.LSTMCell)

        def step(memory, x):
            memory = self.cell(x, memory)
            return memory, (memory[0] if gated else memory) if self.every_step else None

        start: Any = (zero, zero) if gated else zero
        memory, hidden = jax.lax.scan(step, start, x)
        if not self.every_step:
            return self.head(self.dropout(memory[0] if gated else memory, key=key))
        return jax.vmap(self.head)(self.dropout(hidden, key=key))
