"""Datasets: labels that people gave, splits, and clips for models."""
