"""TensorFlow Datasets builders; installed as tffjax.tfds. Preparing data needs TensorFlow, reading them does not."""
