"""All that imports Airflow: the operator that runs stages, what the DAGs share, links, messages."""
