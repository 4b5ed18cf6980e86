"""The whole of vidpipe on one machine: S3, MLflow and Airflow below one folder."""
