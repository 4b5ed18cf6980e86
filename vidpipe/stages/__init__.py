"""The stages: one module each, all with the same `run(manifest, attempt, lake)`."""
