"""Where everything is kept: objects (`store`), Iceberg tables (`tables`), what readers see (`query`)."""
