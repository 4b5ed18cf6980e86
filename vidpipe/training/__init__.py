"""Training: fitting a model, watched, repeatable and stoppable."""
