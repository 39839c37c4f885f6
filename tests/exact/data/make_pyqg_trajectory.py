"""Make `pyqg_trajectory.npz`: a trajectory of pyqg-jax in double precision, the anchor of the QG solver.

    pip install '.[reference]'
    python tests/exact/data/make_pyqg_trajectory.py

The start is a smooth field of turbulent amplitude given by a formula, so that nothing is random; states are
stored after 1, 10, 100 and 1000 steps. pyqg-jax: K. Otness, MIT licence; only its output is stored.
"""

from __future__ import annotations

from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402  (double precision must be chosen before JAX is used)
import pyqg_jax  # noqa: E402

SIZE, TIME_STEP = 32, 14400.0
KEEP = (1, 10, 100, 1000)


def smooth_start(size: int) -> np.ndarray:
    """A few waves in both layers with the standard deviations of developed turbulence (s-1)."""
    y, x = np.meshgrid(*(2.0 * np.pi * np.arange(size) / size,) * 2, indexing="ij")
    q1 = np.cos(3 * x + y) + 0.7 * np.sin(2 * y - 5 * x + 0.3) + 0.5 * np.cos(4 * y + 1.1)
    q2 = np.sin(2 * x - y) + 0.6 * np.cos(5 * y + 3 * x)
    return np.stack([6e-6 * q1, 9e-7 * q2])


def main() -> None:
    model = pyqg_jax.qg_model.QGModel(nx=SIZE, precision=pyqg_jax.state.Precision.DOUBLE)
    stepper = pyqg_jax.steppers.SteppedModel(model, pyqg_jax.steppers.AB3Stepper(dt=TIME_STEP))
    start = smooth_start(SIZE)
    inner = model.create_initial_state(jax.random.key(0)).update(q=start)
    state = stepper.initialize_stepper_state(inner)
    step, kept = jax.jit(stepper.step_model), []
    for n in range(1, max(KEEP) + 1):
        state = step(state)
        if n in KEEP:
            kept.append(np.asarray(model.get_full_state(state.state).q))
    out = Path(__file__).with_name("pyqg_trajectory.npz")
    np.savez_compressed(
        out,
        start=start,
        steps=np.array(KEEP),
        states=np.stack(kept),
        time_step=TIME_STEP,
        version=pyqg_jax.__version__,
    )


if __name__ == "__main__":
    main()
