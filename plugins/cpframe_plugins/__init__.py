"""The bundled plugins: architectures, data sets, deficits, optimizers and metrics."""
