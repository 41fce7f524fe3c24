"""The bundled observers: TensorBoard, MLflow and Weights & Biases, each installed by an extra of the same name."""

from cpframe.api import Observers, hookimpl
from cpframe_plugins.observers.to_mlflow import MLflow
from cpframe_plugins.observers.to_tensorboard import TensorBoard
from cpframe_plugins.observers.to_wandb import WeightsAndBiases


@hookimpl
def cpframe_observers() -> Observers:
    """Offer the bundled observers."""
    return {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
