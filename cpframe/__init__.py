"""cpframe finds, measures and explains critical learning periods in neural networks."""
