# Run once, when the data folder is new: a database and a login for each part that needs one.
database() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$1" --set password="$2" <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect on database :"name" from public;
SQL
}
database airflow "$AIRFLOW_PASSWORD"
database catalog "$CATALOG_PASSWORD"
database mlflow "$MLFLOW_PASSWORD"
