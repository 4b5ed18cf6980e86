"""Evaluation: metrics and pictures of what a model gets right and wrong."""
