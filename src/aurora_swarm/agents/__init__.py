"""One mind: a pure turn machine, what counts as an answer, and the driver that runs them."""
