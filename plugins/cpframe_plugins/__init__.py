"""The bundled plugins: architectures, data sets, deficits, optimizers, metrics and observers."""
