"""Models in Keras 3: what they are made of, and how a trained one travels."""
